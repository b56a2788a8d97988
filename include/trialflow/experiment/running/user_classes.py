"""Tuners, assessors and advisors of the user's own: what they are told, in the order in which the ledger learned it.

They are stateful, unlike everything else here: a process hosts them (see `trialflow.hosting`), and this module keeps it
in step with the ledger. Whatever the ledger knows and the host has not heard is told before the host is asked.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialflow.errors import ClassBusyError, NotFoundError
from trialflow.hosting import ClassHost
from trialflow.metrics import read_number
from trialflow.records import ExperimentStatus, JsonObject, MetricType, Outcome, Trial, TrialStatus
from trialflow.staging import FolderStorage, scan_code
from trialflow.training import get_training_service
from trialflow.training.local.interpreter import with_python
from trialflow.training.local.section import LocalSection
from trialflow.tuners import NoSuggestion, Suggestion

if TYPE_CHECKING:
    from trialflow.messages import Problem
    from trialflow.records import Experiment, ExperimentSpec, Metric
    from trialflow.settings import Settings
    from trialflow.store import Store

logger = logging.getLogger(__name__)

# While an experiment has one of these, its classes are called; afterwards nobody may start their host again.
ACTIVE = (ExperimentStatus.INITIALIZED, ExperimentStatus.RUNNING, ExperimentStatus.TUNER_NO_MORE_TRIAL)


class UserClasses:
    """The classes of one experiment.

    Order of calls: `stage` before the first trial; `suggest`, `assess` and `catch_up` while the experiment is active;
    `close` when it has ended. `suggest` is called by whoever holds the study's lock; the others take it.

    Args:
        experiment: With at least one class of the user's own.
        store: The ledger.
        settings: Of this installation.
    """

    def __init__(self, experiment: Experiment, store: Store, settings: Settings) -> None:
        self._experiment = experiment
        self._store = store
        self._settings = settings
        self._classes = experiment.spec.user_classes
        folder, seconds = Path(experiment.folder), settings.class_call_seconds
        self.host = ClassHost(experiment.id, folder, seconds, _environment_of(experiment.spec, settings))

    @property
    def suggests(self) -> bool:
        """Whether parameters come from a class of the user's own."""
        return "tuner" in self._classes or "advisor" in self._classes

    @property
    def assesses(self) -> bool:
        """Whether intermediate metrics are judged by a class of the user's own."""
        return "assessor" in self._classes or "advisor" in self._classes

    @property
    def assessor_name(self) -> str:
        """The name of the class that judges."""
        return (self._classes.get("assessor") or self._classes["advisor"]).name

    def stage(self) -> list[Problem]:
        """Copy the code of the classes to the experiment's folder; done once, however often it is called."""
        staged = {}
        for kind, spec in self._classes.items():
            assert spec.user_class is not None
            folder, root = Path(spec.user_class.code_directory), Path(spec.user_class.code_root)
            limits = (self._settings.max_code_bytes, self._settings.max_code_files, self._settings.private_folders)
            files, problems = scan_code(folder, root, *limits)
            if problems:
                return problems
            staged[kind] = (spec, FolderStorage(Path(self._experiment.folder)).stage(files))
        self.host.plan(staged, threads=self._experiment.spec.multi_thread)
        return []

    def suggest(self, trial: Trial) -> Suggestion | NoSuggestion:
        """Parameters for a trial, the same again for the same trial.

        Raises:
            ClassBusyError: The class is still being asked, or makes another call; ask again.
            UserClassError: The class failed.
        """
        self._catch_up()
        self._introduce()
        # In a thread of its own, a tuner may wait for another trial; with none there is nothing to wait for.
        has_time = self._experiment.spec.multi_thread and self._store.count_live(self._experiment.id) > 1
        answer = self.host.try_call({"call": "ask", "number": trial.number}, has_time=has_time)
        self._end_killed(answer)
        if "parameters" in answer:
            return Suggestion(answer["parameters"])
        # An advisor may have something when another trial has ended.
        return NoSuggestion.WAIT if "advisor" in self._classes else NoSuggestion.EXHAUSTED

    def assess(self, trial: Trial, step: int, value: Any) -> bool:
        """Whether a running trial should go on.

        Args:
            trial: The trial.
            step: Counts its intermediate metrics from 1; every step is told, in order.
            value: The metric, as it was reported.

        Raises:
            ClassBusyError: The class does not answer yet; ask again.
            UserClassError: The class failed.
        """
        call = {"call": "assess", "trial": trial.id, "number": trial.number, "attempt": trial.attempt}
        with self._store.experiment_lock(self._experiment.id):
            if not self._is_active():
                return True
            answer = self.host.try_call({**call, "step": step, "value": value})
            self._end_killed(answer)
        return bool(answer["good"])

    def catch_up(self) -> None:
        """Tell the classes of every trial that was reported since; what they are too busy for is told next time.

        Raises:
            UserClassError: A class failed.
        """
        with suppress(ClassBusyError), self._store.experiment_lock(self._experiment.id):
            if self._is_active():
                self._catch_up()

    def catch_up_at_last(self) -> None:
        """Tell everything, however long that takes; one that still looks for parameters is told no more.

        Raises:
            UserClassError: A class failed.
        """
        while True:
            try:
                with self._store.experiment_lock(self._experiment.id):
                    if self._is_active():
                        self._catch_up()
                return
            except ClassBusyError as busy:
                if busy.doing == "ask":
                    return

    def close(self) -> None:
        """Leave nothing of the classes running, once the experiment has ended."""
        with self._store.experiment_lock(self._experiment.id):
            if not self._is_active():
                self.host.close()

    def _is_active(self) -> bool:
        return self._store.get_experiment(self._experiment.id).status in ACTIVE

    def _catch_up(self) -> None:
        reported = [trial for trial in self._store.list_trials(self._experiment.id) if trial.reported_at is not None]
        points = self._store.list_known_points(self._experiment.id) if self.suggests else []
        if not reported and not points:
            return
        known = self.host.try_call({"call": "known"})
        if len(points) > known["imported"]:
            new = [{"parameter": point.parameters, "value": point.value} for point in points[known["imported"] :]]
            self._introduce()
            self.host.try_call({"call": "import", "key": known["imported"], "data": new})
        ended, asked = set(known["ended"]), set(known["asked"])
        for trial in sorted(reported, key=lambda trial: (trial.reported_at or 0.0, trial.number)):
            if trial.number not in ended and (trial.number in asked or trial.parameters is not None):
                self._end_killed(self.host.try_call(self._end_of(trial)))

    def _introduce(self) -> None:
        """Let the class know the search space, the first one and every later one."""
        self.host.try_call({"call": "space", "space": self._experiment.spec.search_space})

    def _end_of(self, trial: Trial) -> JsonObject:
        end: JsonObject = {
            "call": "end",
            "number": trial.number,
            "trial": trial.id,
            "status": trial.status.value,
            "parameters": trial.parameters,
        }
        metric = self._result_of(trial)
        return end if metric is None else {**end, "value": metric.value}

    def _result_of(self, trial: Trial) -> Metric | None:
        """The metric that counts as a trial's result; of a failed one none, whatever it has reported."""
        metrics = self._store.list_metrics(trial)
        if trial.status is TrialStatus.SUCCEEDED and trial.value is not None:
            return next((metric for metric in metrics if metric.type is MetricType.FINAL), None)
        includes = self._experiment.spec.tuner.include_intermediate_results
        if trial.status is not TrialStatus.EARLY_STOPPED or not includes:
            return None
        numbers = [m for m in metrics if m.type is MetricType.PERIODICAL and read_number(m.value)[0] is not None]
        return numbers[-1] if numbers else None

    def _end_killed(self, answer: JsonObject) -> None:
        """End the trials that an advisor wants killed; whoever follows them sees it in the ledger."""
        for trial_id in answer.get("kill", ()):
            try:
                trial = self._store.get_trial(self._experiment.id, trial_id)
            except NotFoundError:
                logger.warning("%s: the advisor kills a trial that there is not: %s", self._experiment.id, trial_id)
                continue
            outcome = Outcome(TrialStatus.EARLY_STOPPED, reason=f"{self._experiment.spec.tuner.name} stopped it")
            self._store.set_ended(trial, outcome, None)


def _environment_of(spec: ExperimentSpec, settings: Settings) -> dict[str, str] | None:
    """In which the classes run, where the trials' Python is an environment that somebody has named or made active.

    NNI ran them in the Python of ``nnictl``, which is the worker's where no environment is active.
    """
    service = get_training_service(spec.platform, settings)
    section = service.read_section(spec.training)
    if not isinstance(section, LocalSection):
        return None
    is_active = not {"VIRTUAL_ENV", "CONDA_PREFIX"}.isdisjoint(section.environment or {})
    if not (section.python_path or settings.trial_python_path or is_active):
        return None
    return with_python(os.environ, section, settings.trial_python_path)
