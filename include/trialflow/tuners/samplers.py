"""Tuners that are Optuna's samplers."""

from __future__ import annotations

from abc import abstractmethod
from itertools import count
from typing import TYPE_CHECKING, ClassVar

from trialflow.tuners.drawing import DrawingTuner
from trialflow.tuners.history import Suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.samplers import BaseSampler

    from trialflow.tuners.history import History


class SamplerTuner(DrawingTuner):
    """A tuner that draws from an Optuna sampler, made anew for each draw.

    Attributes:
        keeps_attributes: Whether the sampler reads later what it writes on a trial.
    """

    keeps_attributes: ClassVar[bool] = False

    @abstractmethod
    def sampler(self, history: History, seed: int) -> BaseSampler:
        """A sampler for one draw.

        Args:
            history: What it will be asked about.
            seed: The same seed and the same history give the same draw; 0 to 2**32 - 1.
        """

    def candidates(self, history: History) -> Iterator[Suggestion]:
        from trialflow.tuners.optuna_study import draw

        for attempt in count():
            seed = int(history.generator(attempt).integers(2**32))
            suggestion = draw(history, self.sampler(history, seed))
            yield suggestion if self.keeps_attributes else Suggestion(suggestion.parameters)
