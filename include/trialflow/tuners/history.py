"""What passes between an experiment and its tuner: everything that was asked and told so far, and the answer."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any

from trialflow.records import JsonObject, OptimizeMode, StrEnum

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np

    from trialflow.search_space import SearchSpace


class NoSuggestion(StrEnum):
    """Why a tuner has nothing to suggest."""

    # Nothing until another of the live trials has ended; never the answer when none is live.
    WAIT = "WAIT"
    # Nothing any more, whatever the live trials will bring.
    EXHAUSTED = "EXHAUSTED"


@dataclass(frozen=True)
class Suggestion:
    """What a tuner wants to be tried.

    Attributes:
        parameters: What the trial gets.
        note: What the tuner wants to read on this trial in later histories; JSON.
    """

    parameters: JsonObject
    note: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class PastTrial:
    """A trial that the tuner was asked for, or that a person gave.

    Attributes:
        number: Of the experiment's trials, counted from 0; a trial that ended before its tuner was asked leaves a gap.
            Results from elsewhere have negative numbers.
        live: Whether its result is still to come.
        value: Its result; ``None`` while it is live and for good when it failed. A trial that an assessor stopped
            has its last intermediate metric when the experiment says ``includeIntermediateResults``, else ``None``.
        others: The other objectives of its final metric, by their keys.
        given: Whether a person gave it; then its note is none of the tuner's, and it may lie outside of the space.
    """

    number: int
    parameters: JsonObject
    live: bool
    value: float | None = None
    note: JsonObject = field(default_factory=dict)
    given: bool = False
    others: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A past trial whose result is known, in the terms of the search space.

    Attributes:
        latents: By label, of the active parameters.
        loss: The result, turned so that less is better.
    """

    trial: PastTrial
    latents: dict[str, Any]
    loss: float


@dataclass(frozen=True)
class History:
    """An experiment as its tuner sees it when it is asked.

    Attributes:
        trials: Everything that was given or asked for before, in this order.
        seed: Of the experiment; the same for whoever asks.
    """

    space: SearchSpace
    mode: OptimizeMode
    trials: tuple[PastTrial, ...]
    seed: int

    @cached_property
    def results(self) -> tuple[Result, ...]:
        """The trials with a result, in the order in which they were asked for."""
        return tuple(
            Result(trial, latents, self.loss(trial.value))
            for trial, latents in self._encoded
            if trial.value is not None
        )

    @property
    def asked(self) -> tuple[PastTrial, ...]:
        """The trials that the tuner itself suggested."""
        return tuple(trial for trial in self.trials if not trial.given)

    @cached_property
    def live(self) -> tuple[dict[str, Any], ...]:
        """The latents of the trials whose result is still to come."""
        return tuple(latents for trial, latents in self._encoded if trial.live)

    @cached_property
    def points(self) -> Counter[str]:
        """How often each point was tried, as `point_of` names it; what a person gave also as a tuner would write it."""
        return Counter(name for trial in self.trials for name in self._names(trial))

    def loss(self, value: float) -> float:
        """A result, turned so that less is better."""
        return -value if self.mode is OptimizeMode.MAXIMIZE else value

    def generator(self, *key: int) -> np.random.Generator:
        """Random numbers for this ask; another key gives others, and so does another ask."""
        import numpy as np

        return np.random.default_rng([self.seed, len(self.trials), *key])

    def draw_prior(self, attempt: int = 0) -> dict[str, Any]:
        """The latents of a point from NNI's priors; another attempt draws another one."""
        latents: dict[str, Any] = {}
        for parameter in self.space.walk():
            # Generators of their own: a draw does not depend on which other parameters there are.
            latents[parameter.label] = parameter.latent_at(self.generator(attempt, *parameter.label.encode()).random())
        return latents

    def first_untried(self, listed: Iterable[Suggestion]) -> Suggestion | NoSuggestion:
        """The first of a finite number of points that nobody has tried; one that is listed twice is tried twice."""
        tried = self.points.copy()
        for suggestion in listed:
            point = point_of(suggestion.parameters)
            if not tried[point]:
                return suggestion
            tried[point] -= 1
        return NoSuggestion.EXHAUSTED

    def prior_candidates(self) -> Iterator[Suggestion]:
        """Points from NNI's priors, without end."""
        return (self.suggestion(self.draw_prior(attempt)) for attempt in count())

    def suggestion(self, latents: Mapping[str, Any], note: JsonObject | None = None) -> Suggestion:
        """The suggestion of a point; latents of parameters that are not active are left out."""
        return Suggestion(self.space.build(lambda parameter: latents[parameter.label]), note or {})

    @cached_property
    def _encoded(self) -> tuple[tuple[PastTrial, dict[str, Any]], ...]:
        """The trials that lie in the search space, with their latents."""
        pairs = ((trial, self._encode(trial)) for trial in self.trials)
        return tuple((trial, latents) for trial, latents in pairs if latents is not None)

    def _encode(self, trial: PastTrial) -> dict[str, Any] | None:
        try:
            return self.space.encode(trial.parameters)
        except ValueError:
            return None

    def _names(self, trial: PastTrial) -> set[str]:
        """The point of a trial; a person may have written 1 where a tuner writes 1.0."""
        latents = self._encode(trial) if trial.given else None
        built = () if latents is None else (self.suggestion(latents).parameters,)
        return {point_of(parameters) for parameters in (trial.parameters, *built)}


def point_of(parameters: JsonObject) -> str:
    """What tells two points apart."""
    return json.dumps(parameters, sort_keys=True)
