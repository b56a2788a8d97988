"""CMA-ES (Hansen and Ostermeier, 2001), carried out by Optuna's; for many continuous parameters and many trials."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from pydantic import Field

from trialflow.algorithms import SeededClassArgs
from trialflow.tuners.samplers import SamplerTuner

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from trialflow.tuners.history import History


class CmaEsArgs(SeededClassArgs):
    """Class arguments of CmaEs.

    Attributes:
        population_size: Trials per generation; ``None`` for 4 + 3 · log(number of parameters).
        sigma0: The first step, as a share of the range; ``None`` for a sixth.
    """

    population_size: int | None = Field(default=None, ge=2)
    sigma0: float | None = Field(default=None, gt=0)


class CmaEs(SamplerTuner):
    """Choices and nested parameters are drawn from their priors."""

    Args = CmaEsArgs
    keeps_attributes = True

    def sampler(self, history: History, seed: int) -> BaseSampler:
        from optuna.samplers import CmaEsSampler

        from trialflow.tuners.optuna_study import PriorSampler

        assert isinstance(self.args, CmaEsArgs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # Of sigma0, which Optuna has up to version 6.
            return CmaEsSampler(
                seed=seed,
                sigma0=self.args.sigma0,
                popsize=self.args.population_size,
                independent_sampler=PriorSampler(history, seed),
                warn_independent_sampling=False,
            )
