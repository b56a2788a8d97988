"""Tuners that may ask for any point of the search space, and ask for none twice."""

from __future__ import annotations

from abc import abstractmethod
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from trialflow.tuners.base import Tuner
from trialflow.tuners.grid import point_at
from trialflow.tuners.history import NoSuggestion, point_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trialflow.tuners.history import History, Suggestion

# Of a space that is larger, and that is untried in good part, hardly a point is drawn twice.
_LARGEST_LISTED_SPACE = 20_000


class DrawingTuner(Tuner):
    """Suggests the first of its candidates that was not asked for before.

    When all of them were, any point that is left is suggested; when none is, the tuner is exhausted.

    Attributes:
        most_candidates: How many of them are looked at.
    """

    most_candidates: ClassVar[int] = 5

    @abstractmethod
    def candidates(self, history: History) -> Iterable[Suggestion]:
        """Points in the order of preference, at least one; made one at a time, when they are looked at."""

    def suggest(self, history: History) -> Suggestion | NoSuggestion:
        for suggestion in islice(self.candidates(history), self.most_candidates):
            if self.accepts(history, suggestion):
                return suggestion
        is_listed = history.space.size <= max(_LARGEST_LISTED_SPACE, 2 * len(history.points))
        return _any_other(history) if is_listed else suggestion

    def accepts(self, history: History, suggestion: Suggestion) -> bool:
        """Whether a candidate may be tried: unless it was before."""
        return point_of(suggestion.parameters) not in history.points


def _any_other(history: History) -> Suggestion | NoSuggestion:
    """A point of a finite space that was not asked for."""
    all_points = (history.suggestion(point_at(history.space, index)) for index in range(int(history.space.size)))
    left = [suggestion for suggestion in all_points if point_of(suggestion.parameters) not in history.points]
    return left[int(history.generator().integers(len(left)))] if left else NoSuggestion.EXHAUSTED
