"""The training service: jobs of Kubeflow's training operator, followed by a watch and by files on a shared storage.

What may happen twice or late:

- *submit* writes the attempt's files, then creates the job; one that exists and is ours is the one it wanted.
- *cancel* notes on the storage that the job must not run, then deletes it. A submit looks at that note before it
  creates and again after: whichever of the two comes last deletes the job. A submit that dies in between leaves a job
  that is deleted by its own repetition, or at the end of the experiment.
- A pod that the operator replaces finds on the storage that its replica was started before, and gives up; so a job is
  run once, or lost.
"""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential

from trialflow.errors import TrainingError, UnavailableError
from trialflow.records import JsonObject, Outcome, TrialStatus
from trialflow.sdk import SDK_FOLDER
from trialflow.training.base import JobRequest, JobState, Preflight, TrainingService
from trialflow.training.kubeflow.api import (
    ApiConflictError,
    ApiNotFoundError,
    ClusterApi,
    ClusterError,
    UnreachableError,
    asks_operator,
    resource_path,
)
from trialflow.training.kubeflow.attempt_folder import READABLE_FOLDER, AttemptFolder
from trialflow.training.kubeflow.conditions import JobStatus, Phase, read_status
from trialflow.training.kubeflow.connection import cluster_api
from trialflow.training.kubeflow.diagnosis import explain_failure, explain_vanished
from trialflow.training.kubeflow.informer import JobInformer, informers
from trialflow.training.kubeflow.manifest import SDK_FOLDER_NAME, make_manifest, run_script_name
from trialflow.training.kubeflow.names import (
    EXPERIMENT,
    JOB_NAME_LABEL,
    MANAGED_BY,
    TRIAL,
    experiment_labels,
    job_labels,
    job_name,
    secret_name,
    selector,
)
from trialflow.training.kubeflow.preflight import run_preflight
from trialflow.training.kubeflow.pull_secrets import make_pull_secret
from trialflow.training.kubeflow.rules import check_section
from trialflow.training.kubeflow.run_script import make_run_script
from trialflow.training.kubeflow.section import GROUP, KEPT_SECTION, KubeflowHandle, KubeflowSection
from trialflow.training.kubeflow.waiting_pods import Wait, waiting_pods_of
from trialflow.trial_files import read_end

if TYPE_CHECKING:
    from trialflow.messages import Problem, ProblemMaker

logger = logging.getLogger(__name__)

_CLOSING_SECONDS = 60.0
# What begins and ends an experiment waits for an API server that restarts; whoever acts on a trial tries again later.
_patiently = retry(
    retry=retry_if_exception_type(UnreachableError),
    stop=stop_after_delay(60),
    wait=wait_exponential(0.5, max=10),
    reraise=True,
)
# How much of a trial's output is searched for metrics.
_PRINTED_BYTES = 16 << 20


class KubeflowTrainingService(TrainingService[KubeflowSection, KubeflowHandle]):
    """Runs trials as TFJobs and PyTorchJobs."""

    section_type = KEPT_SECTION
    handle_type = KubeflowHandle

    @property
    def _api(self) -> ClusterApi:
        return cluster_api()

    # ── the experiment ───────────────────────────────────────────────────────────────────────────────────────

    def check(self, section: KubeflowSection, problem_at: ProblemMaker) -> list[Problem]:
        return check_section(section, problem_at, self.settings)

    def preflight(self, section: KubeflowSection, problem_at: ProblemMaker) -> Preflight[KubeflowSection]:
        return run_preflight(section, problem_at, self._api, self.settings)

    def experiment_folder(self, experiment_id: str, section: KubeflowSection) -> Path:
        return Path(section.facts.mount) / "nni" / experiment_id

    @_patiently
    def open_experiment(self, experiment_id: str, section: KubeflowSection) -> None:
        """Lay the module `nni` beside the code, and make the image pull secrets."""
        folder = self.experiment_folder(experiment_id, section)
        try:
            (folder / "trials").mkdir(parents=True, exist_ok=True)
            for made in (folder, folder / "trials"):
                made.chmod(READABLE_FOLDER)
            _lay_out_sdk(folder / SDK_FOLDER_NAME)
        except OSError as error:
            raise _storage_error(folder, error) from error
        secrets = resource_path("v1", section.facts.namespace, "secrets")
        for role in section.roles:
            if role.registry_auth_path:
                self._replace(secrets, make_pull_secret(experiment_id, section.facts.namespace, role))

    @_patiently
    def close_experiment(self, experiment_id: str, section: KubeflowSection) -> None:
        """Delete the experiment's jobs and secrets, and wait until no pod of it is left."""
        of_experiment = selector(experiment_labels(experiment_id))
        jobs = _collection(section)
        kept = set()
        for job in self._api.get(jobs, labelSelector=of_experiment)["items"]:
            if self._is_kept(read_status(job)):
                kept.add(job["metadata"]["name"])
            else:
                self._api.delete(f"{jobs}/{job['metadata']['name']}", after_dependents=True)
        for role in section.roles:
            if role.registry_auth_path:
                name = secret_name(experiment_id, role.name)
                self._api.delete(resource_path("v1", section.facts.namespace, "secrets", name))
        self._await_no_pods(resource_path("v1", section.facts.namespace, "pods"), of_experiment, kept)

    def _is_kept(self, status: JobStatus) -> bool:
        return self.settings.keep_jobs == "failed" and status.phase is Phase.FAILED

    def _await_no_pods(self, pods: str, of_experiment: str, kept: set[str]) -> None:
        deadline = time.monotonic() + _CLOSING_SECONDS
        delay = 0.1
        while True:
            found = self._api.get(pods, labelSelector=of_experiment)["items"]
            left = [pod["metadata"] for pod in found if pod["metadata"]["labels"].get(JOB_NAME_LABEL) not in kept]
            if not left:
                return
            if time.monotonic() > deadline:
                names = ", ".join(pod["name"] for pod in left)
                raise TrainingError(
                    f"pods of the experiment have not ended after {_CLOSING_SECONDS:.0f} s: {names}; "
                    "check their nodes, then run the task again"
                )
            time.sleep(delay)
            delay = min(2 * delay, 5.0)

    def _replace(self, path: str, body: JsonObject) -> None:
        try:
            self._api.create(path, body)
        except ApiConflictError:
            self._api.delete(f"{path}/{body['metadata']['name']}")
            self._api.create(path, body)

    # ── its jobs ─────────────────────────────────────────────────────────────────────────────────────────────

    def handle(self, request: JobRequest[KubeflowSection]) -> KubeflowHandle:
        section = request.section
        return KubeflowHandle(
            folder=request.folder,
            collection=_collection(section),
            name=job_name(request.experiment_id, request.trial_id, request.attempt),
            namespace=section.facts.namespace,
            chief=f"{section.operator.chief}-0",
            container=section.operator.container,
            memory_mb=max(role.memory_mb for role in section.roles),
        )

    def plan(self, request: JobRequest[KubeflowSection]) -> JsonObject:
        return make_manifest(request)

    def submit(self, request: JobRequest[KubeflowSection]) -> None:
        handle, folder = self.handle(request), AttemptFolder(Path(request.folder))
        if self._was_cancelled(folder):
            self._delete(handle)
            return
        self._write_files(request, folder)
        self._create(request, handle)
        if self._was_cancelled(folder):
            self._delete(handle)

    def _write_files(self, request: JobRequest[KubeflowSection], folder: AttemptFolder) -> None:
        roles = request.section.roles
        scripts = {
            run_script_name(role.name): make_run_script(request, role, self.settings.trial_sdk) for role in roles
        }
        try:
            folder.prepare({"parameter.cfg": request.parameter_file, **scripts}, roles)
        except OSError as error:
            raise _storage_error(folder.path, error) from error

    def _create(self, request: JobRequest[KubeflowSection], handle: KubeflowHandle) -> None:
        """Create the job, or find that it is there already."""
        try:
            self._api.create(handle.collection, self.plan(request))
        except ApiConflictError:
            found = self._api.get(handle.path)
            labels = found["metadata"].get("labels", {})
            ours = job_labels(request.experiment_id, request.trial_id, request.attempt)
            if any(labels.get(name) != value for name, value in ours.items()):
                raise TrainingError(
                    f"a job's name must be free or taken by the same trial; {handle.name} in namespace "
                    f"{handle.namespace} belongs to trial {labels.get(TRIAL)} of experiment "
                    f"{labels.get(EXPERIMENT)}, made by {labels.get(MANAGED_BY)}; delete it, or use another namespace"
                ) from None
            logger.info("The job %s exists already", handle.name)
        except ClusterError as error:
            raise _with_remedy(error) from error

    def cancel(self, handle: KubeflowHandle) -> None:
        try:
            AttemptFolder(Path(handle.folder)).cancel()
        except OSError as error:
            # Without the storage no submit gets as far as creating a job.
            logger.warning("%s: its end could not be noted: %s", handle.name, error)
        if self.settings.keep_jobs == "never" or not self._has_failed(handle):
            self._delete(handle)

    def _has_failed(self, handle: KubeflowHandle) -> bool:
        try:
            job = self._api.get(handle.path)
        except ApiNotFoundError:
            return False
        return self._is_kept(read_status(job))

    def _delete(self, handle: KubeflowHandle) -> None:
        self._api.delete(handle.path, after_dependents=True)
        self._informer(handle).forget(handle.name)

    def _was_cancelled(self, folder: AttemptFolder) -> bool:
        try:
            return folder.is_cancelled()
        except OSError as error:
            raise _storage_error(folder.path, error) from error

    def _informer(self, handle: KubeflowHandle) -> JobInformer:
        return informers.of(self._api, handle.collection)

    # ── following them ───────────────────────────────────────────────────────────────────────────────────────

    def poll(self, handle: KubeflowHandle) -> JobState:
        try:
            return self._poll(handle, AttemptFolder(Path(handle.folder)))
        except UnreachableError as error:
            return JobState(reason=str(error))

    def _poll(self, handle: KubeflowHandle, folder: AttemptFolder) -> JobState:
        job = self._informer(handle).get(handle.name)
        if not folder.path.parent.is_dir():
            raise TrainingError(
                f"the storage must be mounted wherever trials are followed; {folder.path.parent} is not to be seen; "
                "mount it here as on the worker that loaded the experiment"
            )
        status = read_status(job) if job is not None else JobStatus(Phase.DELETED, 0.0)
        outcome = self._outcome(handle, status, folder)
        if outcome is not None:
            self._adopt_printed_metrics(handle, folder)
            return JobState(outcome, outcome.started_at)
        if status.phase is Phase.RUNNING:
            return JobState(None, status.started_at)
        return JobState(reason=self._wait(handle, status).reason)

    def _outcome(self, handle: KubeflowHandle, status: JobStatus, folder: AttemptFolder) -> Outcome | None:
        """How the job ended; ``None`` while it waits or runs."""
        if status.phase is Phase.SUCCEEDED:
            return Outcome(TrialStatus.SUCCEEDED, 0, "", status.started_at, status.ended_at)
        if status.phase is Phase.FAILED:
            pods, exits = self._pods(handle), folder.exits()
            return explain_failure(status, pods, exits, handle.chief, handle.memory_mb)
        if status.phase is Phase.DELETED:
            reason = f"the job {handle.name} was deleted before it ended"
            return explain_vanished(folder.exits(), handle.chief, reason)
        return None if status.phase is Phase.RUNNING else self._give_up(handle, status)

    def _give_up(self, handle: KubeflowHandle, status: JobStatus) -> Outcome | None:
        """The end of a job that waits for too long."""
        limit = self.settings.waiting_limit_seconds
        if time.time() - status.created_at <= limit:
            return None
        wait = self._wait(handle, status)
        if time.time() - wait.since <= limit:
            return None
        why = wait.reason or "not all of its pods have started"
        return Outcome(TrialStatus.FAILED, reason=f"it waited longer than {limit:.0f} s: {why}", lost=True)

    def _pods(self, handle: KubeflowHandle) -> list[JsonObject]:
        pods = resource_path("v1", handle.namespace, "pods")
        found = self._api.get(pods, labelSelector=selector({JOB_NAME_LABEL: handle.name}))
        return list(found["items"])

    def _wait(self, handle: KubeflowHandle, status: JobStatus) -> Wait:
        return waiting_pods_of(self._api, handle.namespace).explain(handle.name, status)

    def glance(self, handle: KubeflowHandle) -> str | None:
        """The job's version as the watch has it."""
        return self._informer(handle).version_of(handle.name)

    def output_folder(self, handle: KubeflowHandle) -> Path:
        return AttemptFolder(Path(handle.folder)).replica(handle.chief)

    def metrics_file(self, handle: KubeflowHandle) -> Path:
        return AttemptFolder(Path(handle.folder)).metrics_file(handle.chief)

    def last_output(self, handle: KubeflowHandle, max_lines: int = 20) -> str:
        """Of the replica that failed first, unless the one that stands for the trial has succeeded."""
        folder, chief = AttemptFolder(Path(handle.folder)), handle.chief
        codes = {end.replica: end.code for end in folder.exits()}
        failed = next((replica for replica, code in codes.items() if code != 0), chief)
        return folder.last_output(chief if codes.get(chief) == 0 else failed, max_lines)

    def _adopt_printed_metrics(self, handle: KubeflowHandle, folder: AttemptFolder) -> None:
        """Take metrics that the trial has printed instead of writing them, from the storage or from the pod's log."""
        if folder.has_metrics(handle.chief):
            return
        try:
            output = folder.replica(handle.chief) / "stdout"
            printed = read_end(folder.root, output, _PRINTED_BYTES) or self._read_log(handle)
            if folder.adopt_printed_metrics(handle.chief, printed):
                logger.info("%s: its metrics were read from its output", handle.name)
        except UnreachableError:
            raise
        except (OSError, ClusterError) as error:
            logger.warning("%s: its output could not be read for metrics: %s", handle.name, error)

    def _read_log(self, handle: KubeflowHandle) -> bytes:
        pod = f"{handle.name}-{handle.chief}"
        path = resource_path("v1", handle.namespace, "pods", pod)
        return self._api.read_text(f"{path}/log", container=handle.container, limitBytes=str(_PRINTED_BYTES))


def _with_remedy(error: ClusterError) -> TrainingError:
    """What is said of a job that was not accepted; a quota and an operator that is away may let it in later."""
    if asks_operator(error):
        return UnavailableError(f"the training operator does not answer, check that it runs: {error}")
    if "exceeded quota" in str(error):
        return UnavailableError(f"a quota of the namespace is used up, raise it or wait: {error}")
    return error


def _collection(section: KubeflowSection) -> str:
    facts = section.facts
    return resource_path(f"{GROUP}/{facts.version}", facts.namespace, section.operator.plural)


def _lay_out_sdk(folder: Path) -> None:
    """Copy the module for trial code; it appears whole or not at all."""
    if folder.is_dir():
        return
    growing = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(growing, ignore_errors=True)
    growing.mkdir(parents=True)
    compiled = shutil.ignore_patterns("__pycache__")
    shutil.copytree(SDK_FOLDER / "nni", growing / "nni", ignore=compiled, copy_function=shutil.copyfile)
    for made in (growing, *growing.rglob("*")):
        made.chmod(READABLE_FOLDER if made.is_dir() else 0o644)
    growing.rename(folder)


def _storage_error(folder: Path, error: OSError) -> TrainingError:
    return TrainingError(
        f"the storage must be writable from here; {folder}: {error.strerror} (errno {error.errno}); "
        "check its mount, room and rights"
    )
