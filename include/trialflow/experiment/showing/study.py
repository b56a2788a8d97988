"""The Optuna study of an experiment, written for Optuna's own tools, its dashboard for one; nothing here reads it back.

The study lies in the store's database under the experiment's id. It follows the ledger: a trial of the study carries
the id of the ledger's trial in the user attribute `TRIAL_ATTRIBUTE`, the ledger's trial the number of the study's. A
process that dies between the two leaves a trial without that number, which the next one looks for. Callers hold the
study's lock.

Optuna keeps one kind of distribution, and one list of categories, under a name for as long as the study lives. A
parameter that was given others while the experiment ran goes on under another name, ``layer (2)``; the attribute
`NAMES_ATTRIBUTE` of the study tells which name stands for what.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any

from trialflow.metrics import read_objectives
from trialflow.records import Experiment, JsonObject, Metric, MetricType, Trial, TrialStatus, named_parameters
from trialflow.search_space import SearchSpace, parse_search_space
from trialflow.store.engine import optuna_engine_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import optuna
    from optuna.distributions import BaseDistribution

TRIAL_ATTRIBUTE = "trialflow_trial"
NAMES_ATTRIBUTE = "trialflow_names"
# Each is a transaction of Optuna's own, while every other suggestion and report waits; the ledger has all of them.
MOST_STEPS = 100


class ExperimentStudy:
    """The study of one experiment."""

    def __init__(self, experiment: Experiment, store_url: str) -> None:
        self._experiment = experiment
        self._url = store_url
        self._storage: optuna.storages.RDBStorage | None = None

    def delete(self) -> None:
        """Delete the study; one that is gone is fine."""
        import optuna

        with suppress(KeyError):
            optuna.delete_study(study_name=self._experiment.id, storage=self._open_storage())

    def create(self) -> None:
        """Create Optuna's tables and the study, unless they are there."""
        import optuna

        optuna.create_study(
            storage=self._open_storage(create=True),
            study_name=self._experiment.id,
            directions=[mode.value for mode in self._experiment.spec.objectives.values()],
            load_if_exists=True,
        )

    def add(self, trial: Trial) -> int:
        """Add a running trial; tells its number in the study."""
        from optuna.trial import TrialState, create_trial

        latents, others = self._split({} if trial.parameters is None else trial.parameters)
        distributions = {label: self._space.by_label[label].distribution() for label in latents}
        names = self._name(distributions)
        template = create_trial(
            state=TrialState.RUNNING,
            params={names[label]: latent for label, latent in latents.items()},
            distributions={names[label]: distribution for label, distribution in distributions.items()},
            user_attrs={TRIAL_ATTRIBUTE: trial.id, **others},
        )
        storage = self._open_storage()
        return storage.get_trial_number_from_id(storage.create_new_trial(self._study_id, template))

    def tell(self, trial: Trial, metrics: list[Metric]) -> None:
        """Write the result of an ended trial; one that was written before is left as it is."""
        from optuna.trial import TrialState

        storage = self._open_storage()
        number = self.find(trial) if trial.sampler_number is None else trial.sampler_number
        identifier = storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        if storage.get_trial(identifier).state.is_finished():
            return
        for step, value in _thinned(intermediate_values(metrics)):
            storage.set_trial_intermediate_value(identifier, step, value)
        if trial.status is TrialStatus.SUCCEEDED and trial.value is not None:
            storage.set_trial_state_values(identifier, TrialState.COMPLETE, self._values(trial.value, metrics))
        else:
            state = TrialState.PRUNED if trial.status is TrialStatus.EARLY_STOPPED else TrialState.FAIL
            storage.set_trial_state_values(identifier, state)

    def importances(self) -> dict[str, float]:
        """How much of the variance of the (first) objective each parameter explains, by Optuna's PED-ANOVA.

        Returns:
            Parameter label → share, the largest first; empty while there is nothing to be compared, and when the search
            space has parameters that Optuna cannot know, for among the others alone the shares would mislead.
        """
        import optuna

        study = optuna.load_study(study_name=self._experiment.id, storage=self._open_storage())
        _, unknown = parse_search_space(self._experiment.spec.search_space)
        values = {trial.values[0] for trial in study.get_trials(deepcopy=False) if trial.values}
        if unknown or len(values) <= 1:
            return {}
        if len(study.directions) == 1:
            return optuna.importance.get_param_importances(study)
        sign = -1 if study.directions[0] is optuna.study.StudyDirection.MAXIMIZE else 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It says that less is better, which holds with the sign.
            return optuna.importance.get_param_importances(study, target=lambda trial: sign * trial.values[0])

    def _values(self, value: float, metrics: list[Metric]) -> list[float]:
        """What a trial reached in each objective."""
        objectives = self._experiment.spec.objectives
        if len(objectives) == 1:
            return [value]
        final = next(metric.value for metric in metrics if metric.type is MetricType.FINAL)
        return list(read_objectives(final, objectives).values())

    def find(self, trial: Trial) -> int:
        """The study's number of a trial, where the ledger does not know it; the trial is added when it is not there."""
        for frozen in self._open_storage().get_all_trials(self._study_id, deepcopy=False):
            if frozen.user_attrs.get(TRIAL_ATTRIBUTE) == trial.id:
                return frozen.number
        return self.add(trial)

    def _name(self, distributions: Mapping[str, BaseDistribution]) -> dict[str, str]:
        """The name under which the study takes each parameter; one that is new is noted."""
        from optuna.distributions import distribution_to_json

        storage = self._open_storage()
        known = storage.get_study_user_attrs(self._study_id).get(NAMES_ATTRIBUTE, {})
        names: dict[str, str] = {}
        for label, distribution in distributions.items():
            others = {*names.values(), *distributions} - {label}
            candidates = (name for name in _names_of(label) if name not in others)
            names[label] = next(name for name in candidates if _takes(known.get(name), distribution))
        noted = {names[label]: distribution_to_json(distribution) for label, distribution in distributions.items()}
        if not known.keys() >= noted.keys():
            storage.set_study_user_attr(self._study_id, NAMES_ATTRIBUTE, {**noted, **known})
        return names

    def _split(self, parameters: JsonObject) -> tuple[dict[str, Any], JsonObject]:
        """The latents of the parameters that Optuna can know, and the other parameters."""
        latents: dict[str, Any] = {}
        with suppress(ValueError):  # A tuner of the user's own suggests what it likes.
            latents = self._space.encode(parameters)
        known = {parameter.name for parameter in self._space.parameters} if latents else set()
        named = named_parameters(parameters)
        return latents, {name: value for name, value in named.items() if name not in known}

    @cached_property
    def _space(self) -> SearchSpace:
        return parse_search_space(self._experiment.spec.search_space)[0]

    @cached_property
    def _study_id(self) -> int:
        return self._open_storage().get_study_id_from_name(self._experiment.id)

    def _open_storage(self, *, create: bool = False) -> optuna.storages.RDBStorage:
        import optuna

        if self._storage is None:
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            self._storage = optuna.storages.RDBStorage(
                self._url,
                engine_kwargs=optuna_engine_arguments(self._url),
                skip_compatibility_check=not create,
                skip_table_creation=not create,
            )
        return self._storage


def _thinned(values: list[float]) -> list[tuple[int, float]]:
    """The values with their steps: of many no more than some, evenly, the last one among them."""
    stride = -(-len(values) // MOST_STEPS) or 1
    return [(step, value) for step, value in enumerate(values) if (len(values) - 1 - step) % stride == 0]


def _names_of(label: str) -> Iterator[str]:
    yield label
    yield from (f"{label} ({number})" for number in count(2))


def _takes(known: str | None, distribution: BaseDistribution) -> bool:
    """Whether a name, with what is known of it, can stand for a distribution."""
    from optuna.distributions import check_distribution_compatibility, json_to_distribution

    if known is None:
        return True
    try:
        check_distribution_compatibility(json_to_distribution(known), distribution)
    except ValueError:
        return False
    return True


def intermediate_values(metrics: list[Metric]) -> list[float]:
    """The intermediate metrics that are numbers, in order."""
    from trialflow.metrics import read_number

    numbers = (read_number(metric.value)[0] for metric in metrics if metric.type is MetricType.PERIODICAL)
    return [number for number in numbers if number is not None]
