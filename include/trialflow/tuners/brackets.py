"""Successive halving in brackets (Li et al., 2017), as NNI's Hyperband and BOHB do it, read from the trial list.

Bracket s of s_max, s_max-1, …, 0, s_max, … begins with n = ⌈(s_max + 1) · η^s / (s + 1)⌉ configurations, each with the
budget R / η^s. In each of its further rounds the best 1/η of the round before get η times the budget: a promotion is a
new trial with the same parameters and another `BUDGET_KEY`. Each trial notes its bracket, its round, and the number of
the trial in which its configuration was tried first.

No configuration is tried twice with the same budget, where NNI draws without looking. In a finite space a bracket
begins with fewer when no more are left, or is passed over; when all have had every budget, the tuner is exhausted.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import TYPE_CHECKING

from trialflow.messages import Problem, show
from trialflow.tuners.base import Tuner
from trialflow.tuners.drawing import any_left, can_be_listed
from trialflow.tuners.history import NoSuggestion, Suggestion, point_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trialflow.records import JsonObject
    from trialflow.search_space import SearchSpace
    from trialflow.tuners.history import History, PastTrial

BUDGET_KEY = "TRIAL_BUDGET"
# Keeps whole numbers from falling to the next one.
_EPSILON = 1e-6
_MOST_CANDIDATES = 5


@dataclass(frozen=True)
class Halving:
    """The shape of the brackets.

    Attributes:
        ratio: The largest budget divided by the smallest one.
        budget: Of each bracket's last round.
        eta: One of so many configurations is promoted.
    """

    ratio: float
    budget: float
    eta: int

    def rounds(self, bracket: int) -> list[tuple[int, int]]:
        """Configurations and budget of each round of a bracket; brackets are counted from 0 as they are opened."""
        largest = math.floor(math.log(self.ratio, self.eta) + _EPSILON)
        s = largest - bracket % (largest + 1)
        first = math.ceil((largest + 1) * self.eta**s / (s + 1) - _EPSILON)
        smallest = self.budget / self.eta**s
        return [
            (math.floor(first / self.eta**index + _EPSILON), math.floor(smallest * self.eta**index + _EPSILON))
            for index in range(s + 1)
        ]


class State(Enum):
    """What a bracket needs next."""

    HAS_PROMOTION = auto()
    # The trials of a round, from which the next one will be chosen.
    AWAITS_ROUND = auto()
    # The trials of its last round.
    AWAITS_END = auto()
    ENDED = auto()


@dataclass(frozen=True)
class Bracket:
    """A bracket that was opened.

    Attributes:
        rounds: Configurations and budget of each round.
        trials: Of each round, in the order in which they were asked for.
    """

    index: int
    rounds: list[tuple[int, int]]
    trials: list[list[PastTrial]]

    @property
    def lacks_configurations(self) -> bool:
        """Whether it began with fewer than it should, so far or because no more were left."""
        return len(self.trials[0]) < self.rounds[0][0]

    def with_budget(self, parameters: JsonObject, index: int) -> JsonObject:
        """The parameters of a trial of a round."""
        return {**parameters, BUDGET_KEY: self.rounds[index][1]}

    def next_step(self, history: History) -> tuple[State, PastTrial | None]:
        """What it needs when it lacks no configurations, and the trial that is to be promoted.

        When too few trials of a round have a result, fewer are promoted; when none has, the bracket has ended.
        """
        chosen: list[PastTrial] = []
        for index, asked in enumerate(self.trials):
            if promoted := _first_left(chosen, asked):
                return State.HAS_PROMOTION, promoted
            is_last = index == len(self.rounds) - 1
            if any(trial.live for trial in asked):
                return State.AWAITS_END if is_last else State.AWAITS_ROUND, None
            chosen = [] if is_last else self._choose(history, index + 1)
        return State.ENDED, None

    def _choose(self, history: History, index: int) -> list[PastTrial]:
        """What is promoted into a round, unless it had the budget of that round in another bracket."""
        best = _best(self.trials[index - 1], self.rounds[index][0], history)
        here = {point_of(trial.parameters) for trial in self.trials[index]}
        points = [point_of(self.with_budget(trial.parameters, index)) for trial in best]
        pairs = zip(best, points, strict=True)
        return [trial for trial, point in pairs if point in here or point not in history.points]


class BracketTuner(Tuner):
    """A tuner that is an assessor as well: it spends little on most configurations and much on the best."""

    takes_nested = False

    def check_space(self, space: SearchSpace) -> list[Problem]:
        problems = super().check_space(space)
        if any(parameter.name == BUDGET_KEY for parameter in space.parameters):
            rule = f"{self.spec.name} gives each trial its budget under this name"
            problems.append(Problem(BUDGET_KEY, rule, show(BUDGET_KEY), "Rename the parameter"))
        return problems

    @abstractmethod
    def halving(self) -> Halving:
        """The shape of the brackets."""

    @abstractmethod
    def must_wait(self, newest: State) -> bool:
        """Whether the next bracket may not be opened while the newest one is in this state."""

    @abstractmethod
    def configurations(self, history: History) -> Iterable[Suggestion]:
        """Points to begin with, in the order of preference, at least one."""

    def suggest(self, history: History) -> Suggestion | NoSuggestion:
        halving = self.halving()
        brackets = _read(history, halving)
        lacking = (bracket for bracket in brackets if bracket.lacks_configurations)
        if begun := self._begin_one_of(history, lacking):
            return begun
        steps = [(bracket, *bracket.next_step(history)) for bracket in brackets]
        for bracket, _, promoted in steps:
            if promoted is not None:
                return _place(bracket, promoted.note["round"] + 1, promoted.parameters, promoted.note["config"])
        if steps and self.must_wait(steps[-1][1]):
            return NoSuggestion.WAIT
        following = (_open(len(brackets) + ahead, halving) for ahead in range(len(halving.rounds(0))))
        if begun := self._begin_one_of(history, following):
            return begun
        waits = any(state is State.AWAITS_ROUND for _, state, _ in steps)
        return NoSuggestion.WAIT if waits else NoSuggestion.EXHAUSTED

    def _begin_one_of(self, history: History, brackets: Iterable[Bracket]) -> Suggestion | None:
        return next(filter(None, (self._begin(history, bracket) for bracket in brackets)), None)

    def _begin(self, history: History, bracket: Bracket) -> Suggestion | None:
        """A new configuration, or one that has not had the bracket's first budget; ``None`` when all have had it."""
        known = {point_of(_without_budget(trial.parameters)) for trial in history.trials}

        def is_tried(parameters: JsonObject) -> bool:
            return point_of(bracket.with_budget(parameters, 0)) in history.points

        candidates = list(islice(self.configurations(history), _MOST_CANDIDATES))
        new = [candidate for candidate in candidates if point_of(candidate.parameters) not in known]
        new = new or [candidate for candidate in candidates if not is_tried(candidate.parameters)]
        is_listed = not new and can_be_listed(history)
        found = any_left(history, is_tried) if is_listed else (new or candidates)[0]
        return found and _place(bracket, 0, found.parameters, config=len(history.trials))


def _place(bracket: Bracket, index: int, parameters: JsonObject, config: int) -> Suggestion:
    note = {"bracket": bracket.index, "round": index, "config": config}
    return Suggestion(bracket.with_budget(parameters, index), note)


def _open(index: int, halving: Halving) -> Bracket:
    rounds = halving.rounds(index)
    return Bracket(index, rounds, [[] for _ in rounds])


def _read(history: History, halving: Halving) -> list[Bracket]:
    """The brackets that were opened, as their trials say."""
    brackets: list[Bracket] = []
    for trial in history.trials:
        if "bracket" not in trial.note:
            continue  # It was not suggested here.
        while trial.note["bracket"] >= len(brackets):  # Some may have been passed over.
            brackets.append(_open(len(brackets), halving))
        brackets[trial.note["bracket"]].trials[trial.note["round"]].append(trial)
    return brackets


def _best(trials: list[PastTrial], most: int, history: History) -> list[PastTrial]:
    """The best results, of those that lie in the search space, which may have been changed."""
    numbers = {trial.number for trial in trials}
    succeeded = (result for result in history.results if result.trial.number in numbers)
    return [result.trial for result in sorted(succeeded, key=lambda result: result.loss)[:most]]


def _first_left(chosen: list[PastTrial], promoted: list[PastTrial]) -> PastTrial | None:
    done = {trial.note["config"] for trial in promoted}
    return next((trial for trial in chosen if trial.note["config"] not in done), None)


def _without_budget(parameters: JsonObject) -> JsonObject:
    return {name: value for name, value in parameters.items() if name != BUDGET_KEY}
