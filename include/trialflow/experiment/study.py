"""The Optuna study of an experiment: asking for parameters and telling results, each exactly once.

The study lies in the store's database under the experiment's id, where Optuna's own tools can read it. A trial of the
ledger and a trial of the study are tied by the user attribute `TRIAL_ATTRIBUTE`, written with the study's trial in one
transaction: a process that dies anywhere in between is taken up by the next one. Callers hold the study's lock.
"""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING, Any

from trialflow.records import AlgorithmSpec, Experiment, JsonObject, Metric, MetricType, Trial, TrialStatus
from trialflow.search_space import Parameter, SearchSpace, parse_search_space
from trialflow.store.engine import optuna_engine_arguments
from trialflow.tuners import get_tuner

if TYPE_CHECKING:
    import optuna

TRIAL_ATTRIBUTE = "trialflow_trial"


class ExperimentStudy:
    """Asks and tells for one experiment."""

    def __init__(self, experiment: Experiment, store_url: str) -> None:
        self._experiment = experiment
        self._url = store_url
        self._storage: optuna.storages.RDBStorage | None = None

    def create(self) -> None:
        """Create Optuna's tables and the study, unless they are there."""
        import optuna

        _quiet(optuna)
        optuna.create_study(
            storage=self._open_storage(create=True),
            study_name=self._experiment.id,
            direction=self._experiment.spec.optimize_mode.value,
            load_if_exists=True,
        )

    def ask(self, trial: Trial) -> tuple[JsonObject, int]:
        """Suggest parameters for a claimed trial; a second call for the same trial gives the same ones.

        Returns:
            The parameters, and the trial's number in the study.
        """
        import optuna

        spec = self._experiment.spec
        space, _ = parse_search_space(spec.search_space)
        study = self._load(get_tuner(spec.tuner).sampler(space, self._seed(trial.number)))
        frozen = self._find(study, trial)
        if frozen is None:
            study.add_trial(
                optuna.trial.create_trial(
                    state=optuna.trial.TrialState.RUNNING, user_attrs={TRIAL_ATTRIBUTE: trial.id}
                )
            )
            frozen = self._find(study, trial)
            assert frozen is not None
        parameters = _suggest(optuna.trial.Trial(study, frozen._trial_id), space)
        return parameters, frozen.number

    def tell(self, trial: Trial, metrics: list[Metric]) -> None:
        """Tell the result of an ended trial; one that was told before is left as it is."""
        import optuna
        from optuna.trial import TrialState

        study = self._load(optuna.samplers.RandomSampler())
        frozen = self._find(study, trial)
        if frozen is None:
            return  # It was told, or ended before the tuner was asked.
        for step, value in enumerate(intermediate_values(metrics)):
            study._storage.set_trial_intermediate_value(frozen._trial_id, step, value)
        if trial.status is TrialStatus.SUCCEEDED and trial.value is not None:
            study.tell(frozen.number, trial.value, skip_if_finished=True)
        else:
            state = TrialState.PRUNED if trial.status is TrialStatus.EARLY_STOPPED else TrialState.FAIL
            study.tell(frozen.number, state=state, skip_if_finished=True)

    def importances(self) -> dict[str, float]:
        """How much of the variance of the results each parameter explains, by Optuna's PED-ANOVA.

        Returns:
            Parameter label → share, the largest first; empty while there is nothing to be compared.
        """
        import optuna

        study = self._load(optuna.samplers.RandomSampler())
        values = {trial.value for trial in study.get_trials(deepcopy=False) if trial.value is not None}
        return optuna.importance.get_param_importances(study) if len(values) > 1 else {}

    def _find(self, study: optuna.Study, trial: Trial) -> optuna.trial.FrozenTrial | None:
        """The study's unfinished trial for one of the ledger."""
        from optuna.trial import TrialState

        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return next((frozen for frozen in running if frozen.user_attrs.get(TRIAL_ATTRIBUTE) == trial.id), None)

    def _load(self, sampler: optuna.samplers.BaseSampler) -> optuna.Study:
        import optuna

        _quiet(optuna)
        return optuna.load_study(study_name=self._experiment.id, storage=self._open_storage(), sampler=sampler)

    def _open_storage(self, *, create: bool = False) -> optuna.storages.RDBStorage:
        import optuna

        if self._storage is None:
            self._storage = optuna.storages.RDBStorage(
                self._url,
                engine_kwargs=optuna_engine_arguments(self._url),
                skip_compatibility_check=not create,
                skip_table_creation=not create,
            )
        return self._storage

    def _seed(self, number: int) -> int:
        """A seed for one ask, the same in every process that asks it."""
        given = _given_seed(self._experiment.spec.tuner)
        key = f"{self._experiment.id if given is None else given}/{number}".encode()
        return int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "big")


def intermediate_values(metrics: list[Metric]) -> list[float]:
    """The intermediate metrics that are numbers, in order."""
    from trialflow.metrics import read_number

    numbers = (read_number(metric.value)[0] for metric in metrics if metric.type is MetricType.PERIODICAL)
    return [number for number in numbers if number is not None]


def _given_seed(tuner: AlgorithmSpec) -> Any:
    return tuner.class_args.get("seed")


def _quiet(optuna: Any) -> None:
    """Leave the log to us; what Optuna marks as experimental was chosen knowingly."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def _suggest(trial: optuna.trial.Trial, space: SearchSpace) -> JsonObject:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def latent_of(parameter: Parameter) -> Any:
        distribution = parameter.distribution()
        if isinstance(distribution, CategoricalDistribution):
            return trial.suggest_categorical(parameter.label, distribution.choices)
        if isinstance(distribution, IntDistribution):
            return trial.suggest_int(parameter.label, distribution.low, distribution.high)
        assert isinstance(distribution, FloatDistribution)
        return trial.suggest_float(parameter.label, distribution.low, distribution.high, log=distribution.log)

    return space.build(latent_of)
