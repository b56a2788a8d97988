"""NNI's Anneal: draws ever closer to the best points so far.

The rule is the one of hyperopt, which NNI uses: for each parameter a good trial that has it is chosen, the best one
most often (its rank has a geometric distribution), and the parameter is drawn from its prior, shrunk around the value
of that trial, the more so the more results there are. Four things are not hyperopt's, for they find better points
(median regret of 60 trials over 300 seeds or more, on the problems of bench/problems.py):

- The mean rank is 1.5 and not 2, and what is shrunk by a result 0.15 and not 0.1: Branin 0.058 and not 0.103, Hartmann6
  0.20 and not 0.27.
- An option of a choice counts only its own results, each of them twice, so that one that was seldom tried is not given
  up: on the nested problem 15 % of the searches end in the wrong branch and not 25 %.
- Each parameter has a good trial of its own; with hyperopt's two numbers, one for all of them gave 0.30 and
  not 0.24 on Hartmann6 (60 seeds).
- An integer is a number, near which it is drawn, and not a choice.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, Literal

from trialflow.algorithms import ParallelClassArgs, WithDirection, WithoutEffect
from trialflow.search_space import Z_BOUND
from trialflow.tuners.drawing import DrawingTuner
from trialflow.tuners.history import Suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from trialflow.search_space import Parameter
    from trialflow.tuners.history import History

_MEAN_RANK = 1.5
_SHRINKING = 0.15
_SHRINKING_OF_OPTIONS = 2 * _SHRINKING


class AnnealArgs(WithDirection, ParallelClassArgs):
    """Class arguments of Anneal."""

    parallel_optimize: Annotated[bool, WithoutEffect("what is drawn is spread enough")] = True
    constant_liar_type: Annotated[
        Literal["min", "max", "mean"], WithoutEffect("running trials are not looked at: what is drawn is spread enough")
    ] = "min"


class Anneal(DrawingTuner):
    """The first suggestion is drawn from the prior."""

    Args = AnnealArgs

    def candidates(self, history: History) -> Iterator[Suggestion]:
        ranked = [result.latents for result in sorted(history.results, key=lambda result: result.loss)]
        return (self._draw(history, ranked, attempt) for attempt in count())

    def _draw(self, history: History, ranked: list[dict[str, Any]], attempt: int) -> Suggestion:
        rng, prior = history.generator(attempt), history.draw_prior(attempt)

        def latent_of(parameter: Parameter) -> Any:
            label = parameter.label
            known = [latents for latents in ranked if label in latents]
            if not known:
                return prior[label]
            center, drawn = _choose(known, rng)[label], prior[label]
            if parameter.options:
                tried = sum(latents[label] == drawn for latents in known)
                return drawn if rng.random() < 1 / (1 + _SHRINKING_OF_OPTIONS * tried) else center
            return _draw_near(parameter, center, 1 / (1 + _SHRINKING * len(known)), rng)

        return Suggestion(history.space.build(latent_of))


def _choose(ranked: list[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    return ranked[min(int(rng.geometric(1 / _MEAN_RANK)) - 1, len(ranked) - 1)]


def _draw_near(parameter: Parameter, center: Any, shrink: float, rng: np.random.Generator) -> Any:
    """Draw from the prior of a number, shrunk around one of its latents."""
    if parameter.is_normal:
        return float(min(max(center + shrink * rng.standard_normal(), -Z_BOUND), Z_BOUND))
    middle = min(max(parameter.share_of(center), shrink / 2), 1 - shrink / 2)
    return parameter.latent_at(middle + shrink * (rng.random() - 0.5))
