"""What the tests of the kubeflow service share: a fake cluster, a storage, and requests for jobs on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trialflow.messages import Problem
from trialflow.records import JsonObject
from trialflow.settings import Settings
from trialflow.testing.fake_cluster import FakeCluster
from trialflow.testing.fake_operator import FakeOperator
from trialflow.training import JobRequest
from trialflow.training.kubeflow import KubeflowTrainingService
from trialflow.training.kubeflow.connection import use_cluster
from trialflow.training.kubeflow.informer import informers
from trialflow.training.kubeflow.section import KubeflowSection

Request = JobRequest[KubeflowSection]

EXPERIMENT = "exp12345"
SERVER, EXPORT = "nfs.example", "/export"
# An NNI user's experiment as it ran with NNI, but for server, path and image.
CONFIG = f"""\
authorName: default
experimentName: example_tf
trialConcurrency: 1
maxExecDuration: 1h
maxTrialNum: 5
#choice: local, remote, pai, kubeflow
trainingServicePlatform: kubeflow
searchSpacePath: search_space_tf.json
logDir: /home/someone/nni_log_dir
nniManagerIp: 10.0.0.1
#choice: true, false
useAnnotation: false
tuner:
  #choice: TPE, Random, Anneal, Evolution, BatchTuner, MetisTuner, GPTuner
  builtinTunerName: TPE
  classArgs:
    #choice: maximize, minimize
    optimize_mode: maximize
trial:
  codeDir: .
  worker:
    replicas: 1
    command: python3 mnist_tf.py
    gpuNum: 1
    cpuNum: 1
    memoryMB: 8192
    image: python:3
kubeflowConfig:
  operator: tf-operator
  apiVersion: v1
  storage: nfs
  nfs:
    server: {SERVER}
    path: {EXPORT}
"""
CODE = """
import nni
params = nni.get_next_parameter()
nni.report_intermediate_result(params["x"] / 2)
nni.report_final_result(params["x"])
"""


def make_role(command: str = "true", **changes: Any) -> JsonObject:
    return {
        "replicas": 1,
        "command": command,
        "gpuNum": 0,
        "cpuNum": 1,
        "memoryMB": 128,
        "image": "python:3",
        "privateRegistryAuthPath": None,
        "podTemplate": None,
        **changes,
    }


def make_training(storage: Path | None, operator: str = "tf-operator", **roles: JsonObject) -> JsonObject:
    """A section as the ledger keeps it; with ``storage`` as a preflight would have completed it."""
    cluster = {"version": "v1", "namespace": "default", "mount": str(storage)}
    return {
        "worker": None,
        "ps": None,
        "master": None,
        **roles,
        "kubeflowConfig": {
            "operator": operator,
            "apiVersion": "v1",
            "namespace": None,
            "serviceAccountName": None,
            "storage": "nfs",
            "nfs": {"server": SERVER, "path": EXPORT},
            "pvc": None,
        },
        **({} if storage is None else {"cluster": cluster}),
    }


def make_section(storage: Path | None, operator: str = "tf-operator", **roles: JsonObject) -> KubeflowSection:
    return KubeflowTrainingService().read_section(make_training(storage, operator, **roles))


def problem_at(path: tuple[str, ...], rule: str, value: str | None = None, remedy: str = "") -> Problem:
    return Problem(".".join(path), rule, value, remedy, file="config.yml", line=7)


@dataclass
class Lab:
    """A fake cluster, its storage, and the service under test."""

    cluster: FakeCluster
    storage: Path
    settings: Settings
    made: list[Request] = field(default_factory=list)

    @property
    def service(self) -> KubeflowTrainingService:
        return KubeflowTrainingService(self.settings)

    def request(self, command: str = "true", section: KubeflowSection | None = None) -> Request:
        """A request for a job of its own, in an experiment that is open."""
        section = section or make_section(self.storage, worker=make_role(command))
        folder = self.service.experiment_folder(EXPERIMENT, section)
        (folder / "code-1").mkdir(parents=True, exist_ok=True)
        self.service.open_experiment(EXPERIMENT, section)
        number = len(self.made)
        self.made.append(
            JobRequest(
                experiment_id=EXPERIMENT,
                trial_id=f"T{number:04}",
                number=number,
                attempt=1,
                parameters={"x": 0.5},
                section=section,
                code_folder=str(folder / "code-1"),
                folder=str(folder / "trials" / f"T{number:04}" / "1"),
            )
        )
        return self.made[-1]

    def job(self, request: Request) -> JsonObject:
        """The request's job, which has to be there."""
        found = self.cluster.find("tfjobs", self.service.handle(request).name)
        assert found is not None
        return found

    def chief_folder(self, request: Request) -> Path:
        return Path(request.folder) / "output" / "worker-0"


@contextmanager
def make_lab(tmp_path: Path, **settings: Any) -> Iterator[Lab]:
    """A lab in which nothing runs jobs."""
    storage = tmp_path / "storage"
    storage.mkdir()
    values = {"home": tmp_path / "home", "storage_mounts": f"{SERVER}:{EXPORT}={storage}", **settings}
    with FakeCluster() as cluster:
        api = cluster.connect()
        use_cluster(lambda: api)
        try:
            yield Lab(cluster, storage, Settings(**values))
        finally:
            informers.close()
            use_cluster(None)
            api.close()


@contextmanager
def make_running_lab(tmp_path: Path, **settings: Any) -> Iterator[Lab]:
    """A lab in which jobs are run, as processes."""
    (tmp_path / "pods").mkdir()
    with make_lab(tmp_path, **settings) as lab, FakeOperator(lab.cluster, lab.storage, tmp_path / "pods"):
        yield lab


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return value
