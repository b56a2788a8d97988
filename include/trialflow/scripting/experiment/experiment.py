"""An experiment that a script or a notebook starts, follows and changes; it runs on Airflow.

Airflow's address and the login are those of ``nnictl``. A port of NNI's names no experiment here, and is not looked at.
"""

from __future__ import annotations

import atexit
import json
import logging
import tempfile
import time
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialflow.cli.client import ENDED, NNI, START_TIMEOUT_SECONDS, Api, ApiError, NothingRunsError, wait_for_start
from trialflow.cli.shared import run_address
from trialflow.cli.target import find_target
from trialflow.cli.upload import send_experiment
from trialflow.errors import TrialflowError

from .config import ExperimentConfig
from .data import TrialJob, TrialMetricData, TrialResult

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger(__name__)
_LOOK_SECONDS = 2.0
# So long a server that does not answer is asked again, while an experiment is waited for.
_PATIENCE_SECONDS = 600.0


class RunMode(Enum):
    """What becomes of the experiment when the script ends: it is stopped, unless it is detached."""

    Background = "background"
    Foreground = "foreground"
    Detach = "detach"


class Experiment:
    """An experiment.

    Args:
        config_or_platform: Its configuration, or the platform for which an empty one is made.
        id: Of an experiment that is there already.

    Attributes:
        config: The configuration; ``None`` for an experiment that is there already.
        id: ``None`` before it was started, for Airflow gives it.
    """

    def __init__(
        self,
        config_or_platform: ExperimentConfig | str | list[str] | None = None,
        id: str | None = None,  # noqa: A002  # as in NNI
    ) -> None:
        if not isinstance(config_or_platform, (ExperimentConfig, str, list, type(None))):
            given = type(config_or_platform).__name__
            raise TypeError(
                f"an experiment needs an ExperimentConfig or a platform, not {given}; name a tuner in config.tuner"
            )
        named = config_or_platform
        self.config = ExperimentConfig(named) if isinstance(named, (str, list)) else named
        self.id = id
        self.port: int | None = None
        self.url_prefix: str | None = None

    # ── its life ─────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, port: int = 8080, debug: bool = False, run_mode: RunMode = RunMode.Background) -> None:  # noqa: ARG002
        """Start it; returns when it runs. It is stopped when the script ends, unless ``run_mode`` is Detach.

        Raises:
            TrialflowError: It cannot be started; says why.
        """
        if self.config is None:
            raise TrialflowError("an experiment without a config cannot be started; resume() lets one go on")
        with tempfile.TemporaryDirectory(prefix="trialflow-") as folder:
            file = Path(folder, "config.json")
            file.write_text(json.dumps(self.config.document(), indent=2), encoding="utf-8")
            started = send_experiment(self._api, file, {}, None)
            self._attach(started, port, run_mode)
            self._await_start(started)

    def run(self, port: int = 8080, wait_completion: bool = True, debug: bool = False) -> bool | None:
        """Start it, and wait for its end; Ctrl-C stops it.

        Returns:
            Whether it ended without an error; ``None`` when it was not waited for, or was interrupted.
        """
        return self._go(lambda: self.start(port, debug), wait_completion=wait_completion)

    def resume(self, port: int = 8080, wait_completion: bool = True, debug: bool = False) -> Any:  # noqa: ARG002
        """Let it go on; like `run`. ``Experiment.resume("ID")``, the form of NNI 2.x, gives the experiment."""
        if isinstance(self, str):
            experiment = Experiment(None, self)
            done = experiment.resume(port, wait_completion)
            return done if wait_completion else experiment
        return self._go(lambda: self._resume(port), wait_completion=wait_completion)

    def _resume(self, port: int) -> None:
        started = self._api.ask("POST", f"{NNI}{self._path}/resume").json()
        self._attach(started, port, RunMode.Background)
        self._await_start(started)

    def run_or_resume(self, port: int = 8080, wait_completion: bool = True, debug: bool = False) -> bool | None:
        """Resume it when it is there, else start it."""
        if self.has_checkpoint():
            done: bool | None = self.resume(port, wait_completion, debug)
            return done
        return self.run(port, wait_completion, debug)

    def has_checkpoint(self) -> bool:
        """Whether it is there."""
        return self.id is not None and bool(self.get_experiment_metadata(self.id))

    def view(self, port: int = 8080, non_blocking: bool = False) -> Experiment:
        """Look at an experiment; nothing is started for that. Waits for Ctrl-C, as in NNI, unless told not to."""
        if isinstance(self, str):
            return Experiment(None, self).view(port, non_blocking)
        self.port = port
        profile = self.get_experiment_profile()
        self._say(f"{profile['status']}, see {self._api.target.url}/dags/{profile['dagId']}/runs")
        try:
            while not non_blocking:
                time.sleep(_LOOK_SECONDS)
        except KeyboardInterrupt:
            pass
        return self

    @classmethod
    def connect(cls, port: int | str | None = None) -> Experiment:
        """The experiment that runs, or the newest one when none does; with a text, that of this id.

        Raises:
            ApiError: Several run.
        """
        api = Api(find_target(None, None))
        try:
            found = api.find(port if isinstance(port, str) else None)
        except NothingRunsError:
            known = api.get("/experiments", limit=1)
            if not known:
                raise
            found = known[0]
        experiment = cls(None, found["id"])
        experiment.port = None if isinstance(port, str) else port
        experiment._say(f"{found['status']}")
        return experiment

    def stop(self) -> None:
        """Stop it; one that has ended stays as it is."""
        atexit.unregister(self._stop_at_exit)
        if self.id is not None and self.get_status() not in ENDED:
            self._say("stopping")
            status = self._api.ask("POST", f"{NNI}{self._path}/stop").json()
            self._say(status["status"])
        self.port = None

    def _stop_at_exit(self) -> None:
        try:
            self.stop()
        except TrialflowError as error:
            if getattr(error, "status", None) != HTTPStatus.NOT_FOUND:  # It never came to be, or was deleted.
                _logger.warning("The experiment %s may still run: %s", self.id, error)

    # ── looking at it ────────────────────────────────────────────────────────────────────────────────────────────

    def get_status(self) -> str:
        """Its status: RUNNING, DONE and so on."""
        return str(self._api.get(f"{self._path}/check-status")["status"])

    def get_trial_job(self, trial_job_id: str) -> TrialJob:
        """One of its trials."""
        return TrialJob.of(self._api.get(f"{self._path}/trial-jobs/{trial_job_id}"))

    def list_trial_jobs(self) -> list[TrialJob]:
        """Its trials."""
        return [TrialJob.of(item) for item in self._api.get_all(f"{self._path}/trial-jobs")]

    def get_job_statistics(self) -> list[dict[str, Any]]:
        """How many trials are in each status."""
        statistics: list[dict[str, Any]] = self._api.get(f"{self._path}/job-statistics")
        return statistics

    def get_job_metrics(self, trial_job_id: str | None = None) -> dict[str, list[TrialMetricData]]:
        """What one trial has reported, or all of them, by the trial's id."""
        path = f"{self._path}/metric-data" + (f"/{trial_job_id}" if trial_job_id else "")
        found: dict[str, list[TrialMetricData]] = {}
        for item in self._api.get_all(path):
            found.setdefault(item["trialJobId"], []).append(TrialMetricData.of(item))
        return found

    def get_experiment_profile(self) -> dict[str, Any]:
        """Its parameters as they are in force, and how far it is."""
        headers = {"NNI-Version": "3.0"}
        profile: dict[str, Any] = self._api.ask("GET", f"{NNI}{self._path}/experiment", headers=headers).json()
        return profile

    def get_experiment_metadata(self, exp_id: str) -> dict[str, Any]:
        """An experiment as it stands in the list of all; empty when there is none of this id."""
        known = self.get_all_experiments_metadata()
        return next((item for item in known if item["id"] == exp_id), {})

    def get_all_experiments_metadata(self) -> list[dict[str, Any]]:
        """All experiments, the newest first."""
        return self._api.get_all("/experiments-info")

    def export_data(self) -> list[TrialResult]:
        """Parameters and final metric of every trial that has one."""
        return [TrialResult.of(item) for item in self._api.get(f"{self._path}/export-data")]

    # ── changing it ──────────────────────────────────────────────────────────────────────────────────────────────

    def update_trial_concurrency(self, value: int) -> None:
        """Change how many trials run at a time."""
        self._update("TRIAL_CONCURRENCY", "trialConcurrency", value)

    def update_max_experiment_duration(self, value: str | float) -> None:
        """Change after how much time no new trial starts: ``"2h"``, or seconds."""
        self._update("MAX_EXEC_DURATION", "maxExperimentDuration", value)

    def update_search_space(self, value: dict[str, Any]) -> None:
        """Change what the next trials are drawn from."""
        self._update("SEARCH_SPACE", "searchSpace", value)

    def update_max_trial_number(self, value: int) -> None:
        """Change how many trials are made in all."""
        self._update("MAX_TRIAL_NUM", "maxTrialNumber", value)

    def kill_trial_job(self, trial_job_id: str) -> None:
        """End one trial."""
        self._api.ask("DELETE", f"{NNI}{self._path}/trial-jobs/{trial_job_id}")

    def _update(self, kind: str, key: str, value: Any) -> None:
        body = {"params": {key: value}}
        self._api.ask("PUT", f"{NNI}{self._path}/experiment", params={"update_type": kind}, json=body)

    # ── shared ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _api(self) -> Api:
        return Api(find_target(None, None))

    @property
    def _path(self) -> str:
        if self.id is None:
            raise RuntimeError("Experiment is not running: start it with run() or start(), or give an id")
        return f"/experiments/{self.id}"

    def _attach(self, started: dict[str, str], port: int, run_mode: RunMode) -> None:
        """Note at once what was started: an interruption from here on stops it."""
        new = started["experiment_id"]
        if self.id not in (None, new):
            self._say(f"Airflow gives ids itself; the new experiment is {new}")
        self.id, self.port = new, port
        if run_mode is not RunMode.Detach:
            atexit.register(self._stop_at_exit)

    def _await_start(self, started: dict[str, str]) -> None:
        address = run_address(self._api, started["dag_id"], started["run_id"])
        self._say(f"starting, see {address}")
        reason = wait_for_start(self._api, started, START_TIMEOUT_SECONDS)
        if reason is not None:
            raise ApiError(f"the experiment {self.id} did not start:\n{reason}\nSee {address}")
        for warning in self.get_experiment_profile().get("warnings", []):
            self._say(f"warning: {warning}")

    def _go(self, start: Callable[[], None], *, wait_completion: bool) -> bool | None:
        try:
            start()
            return self._wait() if wait_completion else None
        except KeyboardInterrupt:
            self._say("interrupted")
            self.stop()
            return None

    def _wait(self) -> bool:
        """Wait until it has ended, with a line about each change."""
        shown, answered_at = "", time.monotonic()
        while True:
            try:
                status, line = self._look()
                answered_at = time.monotonic()
            except ApiError as error:
                # Whoever logs in again in time, meanwhile, has lost nothing.
                is_away = error.status in (None, HTTPStatus.UNAUTHORIZED) or error.status >= 500
                if not is_away or time.monotonic() - answered_at > _PATIENCE_SECONDS:
                    raise
                status, line = "", f"waits for the server: {error}"
            if line != shown:
                self._say(line)
                shown = line
            if status in ENDED:
                atexit.unregister(self._stop_at_exit)
                return status != "ERROR"
            time.sleep(_LOOK_SECONDS)

    def _look(self) -> tuple[str, str]:
        profile = self.get_experiment_profile()
        counts = ", ".join(f"{item['trialJobNumber']} {item['trialJobStatus']}" for item in self.get_job_statistics())
        trials = f"{profile['nextSequenceId']} of {profile['params']['maxTrialNum']} trials"
        best = f"; best {profile['best']['value']:.6g}" if profile.get("best") else ""
        reason = f" ({profile['statusReason']})" if profile["statusReason"] else ""
        return profile["status"], f"{profile['status']}{reason}; {trials}{f': {counts}' if counts else ''}{best}"

    def _say(self, line: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {self.id or 'experiment'}: {line}", flush=True)
