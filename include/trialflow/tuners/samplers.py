"""Tuners that are Optuna's samplers."""

from __future__ import annotations

from abc import abstractmethod
from itertools import count
from typing import TYPE_CHECKING, ClassVar

from trialflow.tuners.drawing import DrawingTuner
from trialflow.tuners.history import Suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna.samplers import BaseSampler

    from trialflow.tuners.history import History, Result


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

    def draws_together(self, history: History) -> bool:  # noqa: ARG002
        """Whether the sampler draws the parameters of this history together; see `draw`."""
        return False

    def losses(self, result: Result) -> Sequence[float] | None:
        """What the sampler minimises: one number for each objective; ``None`` for a result that lacks one."""
        return [result.loss]

    def candidates(self, history: History) -> Iterator[Suggestion]:
        from trialflow.tuners.optuna_study import draw

        for attempt in count():
            seed = int(history.generator(attempt).integers(2**32))
            sampler, together = self.sampler(history, seed), self.draws_together(history)
            suggestion = draw(history, sampler, self.losses, together=together)
            yield suggestion if self.keeps_attributes else Suggestion(suggestion.parameters)
