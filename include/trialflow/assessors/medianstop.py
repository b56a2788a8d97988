"""NNI's Medianstop: stop a trial that is worse than the typical trial was at the same step.

The rule is the median stopping rule of Google Vizier (Golovin et al., 2017, section 3.2.2): at step S, compare the
trial's best metric so far with the median of the running averages, up to S, of the completed trials.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from pydantic import Field

from trialflow.algorithms import DirectedClassArgs
from trialflow.assessors.base import Assessor
from trialflow.records import OptimizeMode

if TYPE_CHECKING:
    from collections.abc import Sequence


class MedianstopArgs(DirectedClassArgs):
    """Class arguments of Medianstop.

    Attributes:
        start_step: Trials with fewer metrics than this are not judged.
    """

    start_step: int = Field(default=0, ge=0)


class Medianstop(Assessor):
    """Of an even number of averages, the lower middle one counts when maximising, the upper when minimising."""

    Args = MedianstopArgs

    def is_good(self, history: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        assert isinstance(self.args, MedianstopArgs)
        step = len(history)
        if step < self.args.start_step:
            return True
        averages = [statistics.fmean(metrics[:step]) for metrics in others if len(metrics) >= step]
        if not averages:
            return True
        if self.args.optimize_mode is OptimizeMode.MAXIMIZE:
            return max(history) >= statistics.median_low(averages)
        return min(history) <= statistics.median_high(averages)
