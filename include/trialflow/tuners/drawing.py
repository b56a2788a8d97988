"""Tuners that may ask for any point of the search space, and ask for none twice."""

from __future__ import annotations

from abc import abstractmethod
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from trialflow.tuners.base import Tuner
from trialflow.tuners.history import NoSuggestion, point_of
from trialflow.tuners.listing import point_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trialflow.records import JsonObject
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
        if not can_be_listed(history):
            return suggestion
        left = any_left(history, lambda parameters: point_of(parameters) in history.points)
        return left or NoSuggestion.EXHAUSTED

    def accepts(self, history: History, suggestion: Suggestion) -> bool:
        """Whether a candidate may be tried: unless it was before."""
        return point_of(suggestion.parameters) not in history.points


def can_be_listed(history: History) -> bool:
    """Whether to look through all points when several in a row were drawn before."""
    return history.space.size <= max(_LARGEST_LISTED_SPACE, 2 * len(history.points))


def any_left(history: History, is_tried: Callable[[JsonObject], bool]) -> Suggestion | None:
    """A point of a finite space that was not tried; ``None`` when all were."""
    all_points = (history.suggestion(point_at(history.space, index)) for index in range(int(history.space.size)))
    left = [suggestion for suggestion in all_points if not is_tried(suggestion.parameters)]
    return left[int(history.generator().integers(len(left)))] if left else None
