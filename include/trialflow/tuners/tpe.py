"""NNI's TPE (Bergstra et al., 2011), carried out by Optuna's, with NNI's priors for the first trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trialflow.algorithms import ClassArgs, ParallelClassArgs
from trialflow.tuners.samplers import SamplerTuner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.samplers import BaseSampler

    from trialflow.tuners.history import History, Suggestion


class TPEDetails(ClassArgs):
    """``tpe_args``, which NNI has had since version 2.4.

    Attributes:
        constant_liar_type: ``None`` turns the liar off; Optuna's has one form.
        n_startup_jobs: Results that are waited for before the model is used.
        n_ei_candidates: Points that are drawn from the model, of which the best one is suggested.
        linear_forgetting: Accepted without effect, as are the two that follow: Optuna has settled them.
    """

    constant_liar_type: Literal["best", "worst", "mean"] | None = "best"
    n_startup_jobs: int = Field(default=10, ge=0)
    n_ei_candidates: int = Field(default=24, ge=1)
    linear_forgetting: int = Field(default=25, ge=1)
    prior_weight: float = Field(default=1.0, ge=0)
    gamma: float = Field(default=0.25, gt=0)


class TPEArgs(ParallelClassArgs):
    """Class arguments of TPE."""

    tpe_args: TPEDetails = TPEDetails()


class TPE(SamplerTuner):
    """Optuna's defaults, the first ten suggestions from NNI's priors."""

    Args = TPEArgs

    def candidates(self, history: History) -> Iterator[Suggestion]:
        assert isinstance(self.args, TPEArgs)
        if len(history.results) < self.args.tpe_args.n_startup_jobs:
            return history.prior_candidates()
        return super().candidates(history)

    def sampler(self, history: History, seed: int) -> BaseSampler:  # noqa: ARG002
        from optuna.samplers import TPESampler

        assert isinstance(self.args, TPEArgs)
        details = self.args.tpe_args
        return TPESampler(
            seed=seed,
            n_startup_trials=0,
            n_ei_candidates=details.n_ei_candidates,
            constant_liar=self.args.parallel_optimize and details.constant_liar_type is not None,
        )
