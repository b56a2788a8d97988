"""NNI's GridSearch: every combination of options, and numbers in rounds that halve their intervals.

The rule is that of NNI 2.3 and later. The first round takes the middle of every number's interval, the second adds its
quarters, the third its eighths, and so on; of a normal parameter it is the share below that is halved. Steps of q give
each value once. A round goes through all combinations that hold a number of this round; the first parameter of the file
changes slowest. Integers and options are all there from the first round on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from trialflow.algorithms import DirectedClassArgs
from trialflow.tuners.base import Tuner
from trialflow.tuners.history import NoSuggestion, point_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trialflow.search_space import Parameter, SearchSpace
    from trialflow.tuners.history import History, Suggestion

_LISTED = ("choice", "randint")


class GridSearch(Tuner):
    """The next point is the first that nobody has tried; so parallel asks need not know of each other."""

    Args = DirectedClassArgs

    def suggest(self, history: History) -> Suggestion | NoSuggestion:
        points = (history.suggestion(latents) for latents in points_of(history.space))
        untried = (point for point in points if point_of(point.parameters) not in history.points)
        return next(untried, NoSuggestion.EXHAUSTED)


def points_of(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """The latents of every point, round by round; without an end when a parameter is continuous."""
    grids = {parameter.label: _Grid(parameter) for parameter in space.walk() if parameter.type not in _LISTED}
    for number in count():
        yield from (point for point, is_new in _product(space.parameters, grids) if is_new or not number)
        halved = [grid.halve() for grid in grids.values()]
        if not any(halved):
            return


@dataclass
class _Grid:
    """The values of a number so far.

    Attributes:
        latents: In the order in which they were found.
        old: How many of them are of earlier rounds.
        intervals: What can be halved still, as shares of the prior.
    """

    parameter: Parameter
    latents: list[Any] = field(default_factory=list)
    old: int = 0
    intervals: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 1.0)])

    def __post_init__(self) -> None:
        self.latents = [self.parameter.latent_at(0.5)]
        self.intervals = [pair for pair in ((0.0, 0.5), (0.5, 1.0)) if self._is_open(*pair)]

    def halve(self) -> bool:
        """Begin a round; tells whether there is a value left that is not there yet."""
        self.old = len(self.latents)
        halves: list[tuple[float, float]] = []
        for low, high in self.intervals:
            middle = (low + high) / 2
            # The values at the interval's ends are there, except for those at the bounds.
            known = [self._value(end) for end in (low, high) if 0 < end < 1]
            if self._value(middle) not in known:
                self.latents.append(self.parameter.latent_at(middle))
            halves += [pair for pair in ((low, middle), (middle, high)) if self._is_open(*pair)]
        self.intervals = halves
        return bool(halves) or len(self.latents) > self.old

    def _is_open(self, low: float, high: float) -> bool:
        """Whether an interval holds a value that is not there yet; one at a bound is not."""
        first, last = self._value(low), self._value(high)
        if first >= last:
            return False
        if low == 0 or high == 1:
            return True
        if self.parameter.type.startswith("q"):
            return last - first > 1
        return first < self._value((low + high) / 2) < last

    def _value(self, share: float) -> float:
        """The value below which a share of the prior lies; with steps of q, how many steps that is."""
        value: float = self.parameter.decode(self.parameter.latent_at(share))
        return round(value / self.parameter.arguments[2]) if self.parameter.type.startswith("q") else value


def _product(parameters: tuple[Parameter, ...], grids: dict[str, _Grid]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every combination of some parameters' values, and whether one of them is of this round."""
    if not parameters:
        yield {}, False
        return
    for latents, is_new in _values(parameters[0], grids):
        for others, others_new in _product(parameters[1:], grids):
            yield {**latents, **others}, is_new or others_new


def _values(parameter: Parameter, grids: dict[str, _Grid]) -> Iterator[tuple[dict[str, Any], bool]]:
    """The values of one parameter, with those of the parameters nested in it."""
    label = parameter.label
    if parameter.type == "randint":
        yield from (({label: latent}, False) for latent in range(*map(int, parameter.arguments)))
    elif parameter.options:
        for index, option in enumerate(parameter.options):
            chosen = {label: parameter.latent_at((index + 0.5) / len(parameter.options))}
            for nested, is_new in _product(option.nested or (), grids):
                yield {**chosen, **nested}, is_new
    else:
        grid = grids[label]
        yield from (({label: latent}, index >= grid.old) for index, latent in enumerate(grid.latents))
