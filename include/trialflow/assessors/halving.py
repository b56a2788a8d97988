"""SuccessiveHalving: stops a trial that is not among the best at the steps min_resource · reduction_factor^k.

The rule is that of asynchronous successive halving (Li et al., 2020) as Optuna carries it out: at a rung, a trial goes
on if it is among the best 1 / reduction_factor of all trials that have come to this rung so far; among fewer trials
than the reduction factor only the best one does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from trialflow.algorithms import DirectedClassArgs
from trialflow.assessors.base import Assessor
from trialflow.records import OptimizeMode

if TYPE_CHECKING:
    from collections.abc import Sequence


class SuccessiveHalvingArgs(DirectedClassArgs):
    """Class arguments of SuccessiveHalving.

    Attributes:
        min_resource: The step of the first rung.
        reduction_factor: One of so many trials passes a rung, which lie this factor apart.
        min_early_stopping_rate: How many of the first rungs are left out.
    """

    min_resource: int = Field(default=1, ge=1)
    reduction_factor: int = Field(default=4, ge=2)
    min_early_stopping_rate: int = Field(default=0, ge=0)


class SuccessiveHalving(Assessor):
    """Compares with running and stopped trials as well."""

    Args = SuccessiveHalvingArgs
    compares_with_all = True

    def is_good(self, history: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        assert isinstance(self.args, SuccessiveHalvingArgs)
        step, factor = len(history), self.args.reduction_factor
        if not self._is_rung(step):
            return True
        maximize = self.args.optimize_mode is OptimizeMode.MAXIMIZE
        here = [history[-1], *(metrics[step - 1] for metrics in others if len(metrics) >= step)]
        best = sorted(here, reverse=maximize)[: max(len(here) // factor, 1)]
        return history[-1] >= best[-1] if maximize else history[-1] <= best[-1]

    def _is_rung(self, step: int) -> bool:
        assert isinstance(self.args, SuccessiveHalvingArgs)
        rung = self.args.min_resource * self.args.reduction_factor**self.args.min_early_stopping_rate
        while rung < step:
            rung *= self.args.reduction_factor
        return bool(rung == step)
