"""NSGA-II (Deb et al., 2002) with several objectives, carried out by Optuna's.

A trial's final metric is an object that carries a number for each objective; the first one is its key ``default``. What
is sought is not one best trial but the front: the trials that no other one dominates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from trialflow.algorithms import SeededClassArgs
from trialflow.records import OptimizeMode
from trialflow.tuners.samplers import SamplerTuner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.samplers import BaseSampler

    from trialflow.tuners.history import History, Result


class NSGAIIArgs(SeededClassArgs):
    """Class arguments of NSGAII.

    Attributes:
        objectives: Key in the final metric → direction, of those beside ``default``, whose direction is optimize_mode.
        population_size: Trials per generation.
        mutation_prob: Of each parameter; ``None`` for one parameter a trial on average.
        crossover_prob: That a trial has two parents.
        swapping_prob: Of each parameter to come from the second one.
    """

    objectives: dict[str, OptimizeMode] = Field(min_length=1, max_length=4)
    population_size: int = Field(default=50, ge=2)
    mutation_prob: float | None = Field(default=None, ge=0, le=1)
    crossover_prob: float = Field(default=0.9, ge=0, le=1)
    swapping_prob: float = Field(default=0.5, ge=0, le=1)

    @field_validator("objectives")
    @classmethod
    def _names_no_default(cls, given: dict[str, OptimizeMode]) -> dict[str, OptimizeMode]:
        if "default" in given or "" in given:
            raise ValueError("default is an objective anyway, in the direction of optimize_mode; name the others")
        return given


class NSGAII(SamplerTuner):
    """The first generation, and what mutates, is drawn from NNI's priors, and so are nested parameters."""

    Args = NSGAIIArgs
    keeps_attributes = True

    def sampler(self, history: History, seed: int) -> BaseSampler:
        from trialflow.tuners.optuna_study import PriorNSGAIISampler

        assert isinstance(self.args, NSGAIIArgs)
        return PriorNSGAIISampler(
            history,
            seed,
            population_size=self.args.population_size,
            mutation_prob=self.args.mutation_prob,
            crossover_prob=self.args.crossover_prob,
            swapping_prob=self.args.swapping_prob,
        )

    def losses(self, result: Result) -> Sequence[float] | None:
        assert isinstance(self.args, NSGAIIArgs)
        others, objectives = result.trial.others, self.args.objectives
        if not objectives.keys() <= others.keys():
            return None  # Brought from elsewhere, where only one number is kept.
        signs = {key: -1 if mode is OptimizeMode.MAXIMIZE else 1 for key, mode in objectives.items()}
        return [result.loss, *(sign * others[key] for key, sign in signs.items())]
