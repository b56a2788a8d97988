"""A history as an Optuna study, and one draw from it.

A sampler is asked about a study that is held in memory and made for this one draw. The study in the store is written
for Optuna's own tools and never read back: on SQLite that costs 0.5 ms per finished trial in every fresh process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optuna  # noqa: TID253  # this module is imported when a tuner that needs it is asked
from optuna.distributions import BaseDistribution  # noqa: TID253
from optuna.samplers import BaseSampler, NSGAIISampler  # noqa: TID253
from optuna.trial import FrozenTrial, TrialState  # noqa: TID253

from trialflow.tuners.history import Suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from trialflow.records import JsonObject
    from trialflow.search_space import Parameter
    from trialflow.tuners.history import History, Result

_ATTRIBUTES = "attributes"
_PARENTS = 2


class PriorSampler(BaseSampler):
    """Draws each parameter from NNI's prior."""

    def __init__(self, history: History, seed: int) -> None:
        self._latents = history.draw_prior(seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]  # noqa: ARG002
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution  # noqa: ARG002
    ) -> Any:
        return self._latents[param_name]


class PriorNSGAIISampler(NSGAIISampler):
    """Draws from NNI's priors what is not inherited from parents."""

    def __init__(self, history: History, seed: int, **options: Any) -> None:
        super().__init__(seed=seed, **options)
        self._prior = PriorSampler(history, seed)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        generation = self.get_trial_generation(study, trial)
        if generation and len(self.get_parent_population(study, generation)) < _PARENTS:
            return {}  # They lie outside of the search space since it was changed.
        return super().sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._prior.sample_independent(study, trial, param_name, param_distribution)


def draw(
    history: History,
    sampler: BaseSampler,
    losses: Callable[[Result], Sequence[float] | None],
    *,
    together: bool = False,
) -> Suggestion:
    """A point of the sampler's; what the sampler wants to read on it later is noted on the suggestion.

    Args:
        history: With at least one result.
        sampler: Made for this draw.
        losses: What the sampler minimises of a result, one number for each objective; ``None`` leaves the result out.
        together: Whether the sampler draws all parameters together if every trial has all of them. Then it need not
            look through all trials for those that every one has, which takes a fifth of an ask.
    """
    storage = _HistoryStorage(_frozen_trials(history, losses))
    study = _study(storage, sampler)
    trial = storage.asked
    sampler.before_trial(study, trial)
    space = _whole_space(history) if together else sampler.infer_relative_search_space(study, trial)
    relative = sampler.sample_relative(study, trial, space)

    def latent_of(parameter: Parameter) -> Any:
        distribution = parameter.distribution()
        if parameter.label in relative:
            return relative[parameter.label]
        if distribution.single():
            return parameter.latent_at(0.5)
        return sampler.sample_independent(study, trial, parameter.label, distribution)

    parameters = history.space.build(latent_of)
    return Suggestion(parameters, {_ATTRIBUTES: storage.attributes} if storage.attributes else {})


def _whole_space(history: History) -> dict[str, BaseDistribution]:
    """Every parameter that has more than one value, by label, in the order in which Optuna puts them."""
    found = {parameter.label: parameter.distribution() for parameter in history.space.parameters}
    return {label: distribution for label, distribution in sorted(found.items()) if not distribution.single()}


class _HistoryStorage(optuna.storages.InMemoryStorage):
    """The study of a history; what a sampler writes on the trial that is asked for is kept in ``attributes``."""

    def __init__(self, trials: list[FrozenTrial]) -> None:
        super().__init__()
        self._trials = trials
        self.attributes: JsonObject = {}

    @property
    def asked(self) -> FrozenTrial:
        """The trial that is asked for."""
        return self._trials[-1]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None  # noqa: ARG002
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._trials[trial_id]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:  # noqa: ARG002
        self.attributes[key] = value


def _study(storage: _HistoryStorage, sampler: BaseSampler) -> optuna.Study:
    objectives = max(len(trial.values or [0]) for trial in storage.get_all_trials(0))
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(storage=storage, sampler=sampler, directions=["minimize"] * objectives)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _frozen_trials(history: History, losses: Callable[[Result], Sequence[float] | None]) -> list[FrozenTrial]:
    """Optuna's view of the history, which minimises the losses; the last one is the trial that is asked for."""
    distributions = {parameter.label: parameter.distribution() for parameter in history.space.walk()}
    rows: list[tuple[dict[str, Any], JsonObject, Sequence[float] | None]] = [
        *((result.latents, result.trial.note, found) for result in history.results if (found := losses(result))),
        *((latents, {}, None) for latents in history.live),
        ({}, {}, None),
    ]
    return [
        FrozenTrial(
            number=number,
            state=TrialState.RUNNING if values is None else TrialState.COMPLETE,
            value=None,
            values=values,
            datetime_start=None,
            datetime_complete=None,
            params=latents,
            distributions={label: distributions[label] for label in latents},
            user_attrs={},
            system_attrs=note.get(_ATTRIBUTES, {}),
            intermediate_values={},
            trial_id=number,
        )
        for number, (latents, note, values) in enumerate(rows)
    ]
