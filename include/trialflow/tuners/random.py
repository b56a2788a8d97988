"""NNI's Random: every parameter from its prior, whatever the results were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialflow.tuners.base import Tuner

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from trialflow.search_space import SearchSpace


class Random(Tuner):
    """Takes no class arguments, as in NNI."""

    def sampler(self, space: SearchSpace, seed: int) -> BaseSampler:
        from trialflow.tuners.samplers import PriorSampler

        return PriorSampler(space, seed)
