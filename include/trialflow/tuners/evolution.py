"""NNI's Evolution, a naive form of Real et al. (2017): of two individuals the worse one makes way for a mutant."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from pydantic import Field

from trialflow.algorithms import SeededClassArgs, WithDirection
from trialflow.tuners.drawing import DrawingTuner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trialflow.tuners.history import History, Result, Suggestion


class EvolutionArgs(WithDirection, SeededClassArgs):
    """Class arguments of Evolution.

    Attributes:
        population_size: How many individuals are drawn from the prior before the first mutation.
    """

    population_size: int = Field(default=32, ge=1, le=99999)


class Evolution(DrawingTuner):
    """The population is read from the history: an individual that made way is noted on the trial that replaced it.

    A trial without a result leaves the population; an individual drawn from the prior takes its place.
    """

    Args = EvolutionArgs

    def candidates(self, history: History) -> Iterator[Suggestion]:
        assert isinstance(self.args, EvolutionArgs)
        drawn = sum("replaces" not in trial.note for trial in history.trials)
        lost = sum(not trial.live and trial.value is None for trial in history.trials)
        population = _population(history)
        if drawn < self.args.population_size + lost or not population:
            return history.prior_candidates()
        return (_mutate(history, population, attempt) for attempt in count())


def _mutate(history: History, population: list[Result], attempt: int) -> Suggestion:
    """Change one parameter of the better one of a random pair; the worse one makes way."""
    rng, prior = history.generator(attempt), history.draw_prior(attempt)
    pair = [population[index] for index in rng.permutation(len(population))[:2]]
    better, worse = min(pair, key=_loss), max(pair, key=_loss)
    label = sorted(better.latents)[int(rng.integers(len(better.latents)))]
    mutant: dict[str, Any] = {**prior, **better.latents, label: prior[label]}
    # The last individual of a population stays.
    return history.suggestion(mutant, {"replaces": worse.trial.number if len(population) > 1 else None})


def _population(history: History) -> list[Result]:
    gone = {trial.note.get("replaces") for trial in history.trials}
    return [result for result in history.results if result.trial.number not in gone]


def _loss(result: Result) -> float:
    return result.loss
