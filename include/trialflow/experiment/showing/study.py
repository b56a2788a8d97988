"""The Optuna study of an experiment: a projection of the ledger, for Optuna's own tools, its dashboard for one.

`write_study` brings a study up to date with the ledger and may be repeated: it finds each trial by the ledger's id in
the user attribute `TRIAL_ATTRIBUTE`, adds those that are missing, and finishes those that have ended since. A trial
appears whole or not at all, so that a process may die anywhere in between. Nothing here is read back by Trialflow.

Optuna keeps one kind of distribution, and one list of categories, under a name for as long as the study lives. A
parameter that was given others while the experiment ran goes on under another name, ``layer (2)``; the attribute
`NAMES_ATTRIBUTE` of the study tells which name stands for what.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property, partial
from itertools import count
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from trialflow.metrics import read_number, read_objectives
from trialflow.records import (
    Experiment,
    KnownPoint,
    Metric,
    MetricType,
    Trial,
    TrialStatus,
    named_parameters,
)
from trialflow.search_space import SearchSpace, parse_search_space
from trialflow.store import Adjustable
from trialflow.store.engine import commit_quickly, get_engine, optuna_engine_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import optuna
    from optuna.distributions import BaseDistribution

    from trialflow.store import Store

TRIAL_ATTRIBUTE = "trialflow_trial"
NAMES_ATTRIBUTE = "trialflow_names"
# Optuna writes each of a trial's steps by itself; the ledger has all of them.
MOST_STEPS = 100


@dataclass(frozen=True)
class StudySource:
    """What the ledger holds for a study.

    Attributes:
        trials: Every trial; those without parameters are left out of the study.
        points: Results that people brought from elsewhere.
        spaces: When each search space came into force, in seconds since the epoch, in order.
        finals: The final metric of each trial that has one, by trial id.
        steps: The intermediate metrics of each trial, by trial id; empty unless they were asked for.
    """

    experiment: Experiment
    trials: Sequence[Trial]
    points: Sequence[KnownPoint]
    spaces: Sequence[tuple[float, SearchSpace]]
    finals: Mapping[str, Metric]
    steps: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @classmethod
    def read(cls, store: Store, experiment_id: str, *, with_steps: bool = False) -> StudySource:
        """Read an experiment's ledger as it stands now."""
        experiment = store.get_experiment(experiment_id)
        metrics = store.list_intermediate_metrics(experiment_id, *TrialStatus) if with_steps else {}
        return cls(
            experiment=experiment,
            trials=store.list_trials(experiment_id),
            points=store.list_known_points(experiment_id),
            spaces=tuple(_list_spaces(experiment, store)),
            finals=store.list_finals(experiment_id),
            steps={trial_id: intermediate_values(found) for trial_id, found in metrics.items()},
        )

    @cached_property
    def objectives(self) -> dict[str, dict[str, float]]:
        """With several objectives, what each trial with a value reached in all of them, by its id."""
        keys = self.experiment.spec.objectives
        if len(keys) == 1:
            return {}
        ended = (trial.id for trial in self.trials if trial.value is not None)
        return {trial_id: read_objectives(self.finals[trial_id].value, keys) for trial_id in ended}

    @cached_property
    def directions(self) -> list[optuna.study.StudyDirection]:
        """The direction of each objective."""
        from optuna.study import StudyDirection

        return [StudyDirection[mode.name] for mode in self.experiment.spec.objectives.values()]


def write_study(source: StudySource, url: str) -> int:
    """Bring the study of an experiment in a database up to date; may be repeated.

    Args:
        source: The ledger's side.
        url: SQLAlchemy URL of the database; Optuna's tables are made when they are missing.

    Returns:
        How many trials the study has now.
    """
    import optuna

    with _storage_at(url) as storage:
        study = optuna.create_study(
            storage=storage, study_name=source.experiment.id, directions=source.directions, load_if_exists=True
        )
        _bring_up_to_date(study, storage, source)
        return len(storage.get_all_trials(study._study_id, deepcopy=False))


def _bring_up_to_date(study: optuna.Study, storage: optuna.storages.BaseStorage, source: StudySource) -> None:
    """Add what is missing in a study, and finish what has ended since."""
    written = {trial.user_attrs.get(TRIAL_ATTRIBUTE): trial for trial in study.get_trials(deepcopy=False)}
    known = study.user_attrs.get(NAMES_ATTRIBUTE, {})
    builder = _TrialBuilder(source, dict(known))
    for key, build in builder.list_trials():
        there = written.get(key)
        if there is not None and there.state.is_finished():
            continue
        frozen = build()
        if there is not None:
            _finish(storage, there._trial_id, frozen)
            continue
        if builder.names != known:
            study.set_user_attr(NAMES_ATTRIBUTE, builder.names)
            known = dict(builder.names)
        storage.create_new_trial(study._study_id, frozen)


def delete_study(experiment_id: str, url: str) -> None:
    """Delete a study; one that is gone, or was never written, is fine."""
    import optuna

    if not sa.inspect(get_engine(url)).has_table("studies"):
        return
    with _storage_at(url) as storage, suppress(KeyError):
        optuna.delete_study(study_name=experiment_id, storage=storage)


def find_importances(source: StudySource) -> dict[str, float]:
    """How much of the variance of the (first) objective each parameter explains, by Optuna's PED-ANOVA.

    Returns:
        Parameter label → share, the largest first; empty while there is nothing to be compared, and when the search
        space has parameters that Optuna cannot know, for among the others alone the shares would mislead.
    """
    import optuna

    _, unknown = parse_search_space(source.experiment.spec.search_space)
    ended = [trial for trial in source.trials if trial.value is not None]
    if unknown or len({trial.value for trial in ended}) <= 1:
        return {}
    _silence()
    study = optuna.create_study(directions=source.directions)
    study.add_trials([build() for _, build in _TrialBuilder(source, {}).list_trials(ended, points=())])
    sign = -1 if study.directions[0] is optuna.study.StudyDirection.MAXIMIZE else 1
    # With several objectives, Optuna says that less is better, which holds with the sign.
    target = (lambda trial: sign * trial.values[0]) if len(study.directions) > 1 else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It also says that few trials tell little, which the picture's readers know.
        return optuna.importance.get_param_importances(study, target=target)


@dataclass
class _TrialBuilder:
    """Makes the trials of a study.

    Attributes:
        source: The ledger's side.
        names: The name under which the study knows a parameter → its distribution, as JSON; grows.
    """

    source: StudySource
    names: dict[str, str]

    def list_trials(
        self, trials: Sequence[Trial] | None = None, points: Sequence[KnownPoint] | None = None
    ) -> Iterator[tuple[str, Callable[[], optuna.trial.FrozenTrial]]]:
        """What identifies each trial of the study, and a function that makes it."""
        for trial in self.source.trials if trials is None else trials:
            if trial.parameters is not None:
                yield trial.id, partial(self._build_trial, trial)
        for position, point in enumerate(self.source.points if points is None else points):
            if len(self.source.directions) == 1:  # A point from elsewhere has one value.
                key = f"imported {position}"
                yield key, partial(self._build_point, key, point)

    def _build_point(self, key: str, point: KnownPoint) -> optuna.trial.FrozenTrial:
        from optuna.trial import TrialState, create_trial

        described = self._describe(key, point.parameters, self.source.spaces)
        return create_trial(state=TrialState.COMPLETE, value=point.value, **described)

    def _build_trial(self, trial: Trial) -> optuna.trial.FrozenTrial:
        from optuna.trial import TrialState, create_trial

        then = [space for since, space in self.source.spaces if since <= trial.claimed_at]
        # A search space may have been changed between the claim and the ask.
        spaces = sorted(self.source.spaces, key=lambda one: one[1] is not then[-1])
        described = self._describe(trial.id, trial.parameters, spaces)
        values, state = None, TrialState.RUNNING
        if trial.reported_at is not None:
            described["intermediate_values"] = dict(_thin(self.source.steps.get(trial.id, ())))
            values = self._values(trial) if trial.status is TrialStatus.SUCCEEDED else None
            failed = TrialState.PRUNED if trial.status is TrialStatus.EARLY_STOPPED else TrialState.FAIL
            state = TrialState.COMPLETE if values else failed
        frozen = create_trial(state=state, values=values, **described)
        # Optuna would note when they were written here.
        frozen.datetime_start = _local_time(trial.started_at or trial.claimed_at)
        frozen.datetime_complete = None if trial.reported_at is None else _local_time(trial.ended_at or 0.0)
        return frozen

    def _describe(
        self, key: str, parameters: Any, spaces: Sequence[tuple[float, SearchSpace]]
    ) -> dict[str, Any]:
        """The parameters that Optuna can know, by the first search space that takes them; the others as attributes."""
        from optuna.distributions import distribution_to_json

        space, latents = next(_encodings(parameters, spaces), (None, {}))
        distributions = {label: space.by_label[label].distribution() for label in latents} if space else {}
        chosen: dict[str, str] = {}
        for label, distribution in distributions.items():
            others = {*chosen.values(), *distributions} - {label}
            candidates = (name for name in _names_of(label) if name not in others)
            chosen[label] = next(name for name in candidates if _takes(self.names.get(name), distribution))
        for label, distribution in distributions.items():
            self.names.setdefault(chosen[label], distribution_to_json(distribution))
        known = {parameter.name for parameter in space.parameters} if space else set()
        return {
            "params": {chosen[label]: latent for label, latent in latents.items()},
            "distributions": {chosen[label]: distribution for label, distribution in distributions.items()},
            "user_attrs": {
                **{name: value for name, value in named_parameters(parameters).items() if name not in known},
                TRIAL_ATTRIBUTE: key,
            },
        }

    def _values(self, trial: Trial) -> list[float] | None:
        """What a trial reached in each objective; ``None`` when it has no value."""
        if trial.value is None:
            return None
        several = self.source.objectives.get(trial.id)
        return list(several.values()) if several else [trial.value]


def _list_spaces(experiment: Experiment, store: Store) -> Iterator[tuple[float, SearchSpace]]:
    """Every search space that the experiment has had, with the time from which on it was in force."""
    spec = experiment.spec
    yield 0.0, parse_search_space(spec.search_space if spec.first_search_space is None else spec.first_search_space)[0]
    for change in store.list_changes(experiment.id):
        if change.what == Adjustable.SEARCH_SPACE:
            yield change.at, parse_search_space(change.value)[0]


def _encodings(
    parameters: Any, spaces: Sequence[tuple[float, SearchSpace]]
) -> Iterator[tuple[SearchSpace, dict[str, Any]]]:
    """The search spaces that take these parameters, and the latents; a user's tuner may suggest what none takes."""
    for _, space in spaces:
        with suppress(ValueError):
            yield space, space.encode(parameters)


def _finish(storage: optuna.storages.BaseStorage, identifier: int, frozen: optuna.trial.FrozenTrial) -> None:
    """Give a running trial of the study its end, if it has come to that."""
    if frozen.state.is_finished():
        for step, value in frozen.intermediate_values.items():
            storage.set_trial_intermediate_value(identifier, step, value)
        storage.set_trial_state_values(identifier, frozen.state, frozen.values)


@contextmanager
def _storage_at(url: str) -> Iterator[optuna.storages.RDBStorage]:
    """Optuna's storage in a database, closed at the end, for the file may be removed then."""
    import optuna

    _silence()
    storage = optuna.storages.RDBStorage(url, engine_kwargs=optuna_engine_arguments(url))
    commit_quickly(storage.engine)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _local_time(at: float) -> datetime:
    """As Optuna writes its times: the clock on the wall here, without a zone."""
    return datetime.fromtimestamp(at, timezone.utc).astimezone().replace(tzinfo=None)


def _silence() -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _thin(values: Sequence[float]) -> list[tuple[int, float]]:
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


def intermediate_values(metrics: Sequence[Metric]) -> list[float]:
    """The intermediate metrics that are numbers, in order."""
    numbers = (read_number(metric.value)[0] for metric in metrics if metric.type is MetricType.PERIODICAL)
    return [number for number in numbers if number is not None]
