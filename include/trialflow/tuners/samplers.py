"""Optuna samplers with NNI's priors and NNI's view of early-stopped trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler, TPESampler  # noqa: TID253  # imported by the functions that make a sampler
from optuna.trial import TrialState  # noqa: TID253

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from trialflow.search_space import SearchSpace


class PriorSampler(BaseSampler):
    """Draws each parameter from its prior; the same seed and trial number give the same draw."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._parameters = space.by_label
        self._seed = seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]  # noqa: ARG002
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,  # noqa: ARG002
    ) -> Any:
        # A generator per parameter: a draw does not depend on which others were drawn before in this process.
        key = [self._seed, trial.number, *param_name.encode()]
        return self._parameters[param_name].draw_latent(np.random.default_rng(key))


class NniTPESampler(TPESampler):
    """Optuna's TPE; while there are too few results it draws from NNI's priors.

    Args:
        space: The search space.
        seed: For this one ask.
        constant_liar: Whether running trials count as bad ones.
        count_pruned: Whether early-stopped trials count with their last intermediate metric, which NNI does only
            with ``includeIntermediateResults``.
    """

    def __init__(self, space: SearchSpace, seed: int, *, constant_liar: bool, count_pruned: bool) -> None:
        super().__init__(seed=seed, constant_liar=constant_liar)
        self._priors = PriorSampler(space, seed)
        self._count_pruned = count_pruned

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(self._view(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        view = self._view(study)
        known = view._get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED), use_cache=True)
        if len(known) < self._n_startup_trials:
            return self._priors.sample_independent(study, trial, param_name, param_distribution)
        return super().sample_independent(view, trial, param_name, param_distribution)

    def _view(self, study: Study) -> Study:
        return study if self._count_pruned else _WithoutPruned(study)  # type: ignore[return-value]


class _WithoutPruned:
    """A study as a sampler sees it, without its pruned trials."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Sequence[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        kept = tuple(state for state in states or tuple(TrialState) if state is not TrialState.PRUNED)
        return self._study._get_trials(deepcopy=deepcopy, states=kept, use_cache=use_cache)
