"""NNI's Random: every parameter from its prior, whatever the results were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialflow.algorithms import SeededClassArgs
from trialflow.tuners.drawing import DrawingTuner

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trialflow.tuners.history import History, Suggestion


class Random(DrawingTuner):
    """Reads the direction only to tell which trial was the best."""

    Args = SeededClassArgs

    def candidates(self, history: History) -> Iterable[Suggestion]:
        return history.prior_candidates()
