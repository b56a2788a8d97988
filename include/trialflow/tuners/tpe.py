"""NNI's TPE (Bergstra et al., 2011), carried out by Optuna's, with NNI's priors for the first trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trialflow.algorithms import DirectedClassArgs
from trialflow.tuners.base import Tuner

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from trialflow.search_space import SearchSpace


class TPEArgs(DirectedClassArgs):
    """Class arguments of TPE.

    Attributes:
        parallel_optimize: Counts running trials as bad ones, so that parallel suggestions spread.
        constant_liar_type: Accepted; Optuna's liar has one form.
        seed: Makes the suggestions repeatable.
    """

    parallel_optimize: bool = True
    constant_liar_type: Literal["min", "max", "mean"] = "min"
    seed: int | None = Field(default=None, ge=0, lt=2**32)


class TPE(Tuner):
    """Optuna's defaults; the first ten suggestions are drawn from the priors."""

    Args = TPEArgs

    def sampler(self, space: SearchSpace, seed: int) -> BaseSampler:
        from trialflow.tuners.samplers import NniTPESampler

        assert isinstance(self.args, TPEArgs)
        return NniTPESampler(
            space,
            seed,
            constant_liar=self.args.parallel_optimize,
            count_pruned=self.spec.include_intermediate_results,
        )
