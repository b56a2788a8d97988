"""What becomes of a trial, and what its tuner is told, for each cause of failure in the table of docs/kubeflow.md."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import CoreV1Api, CustomObjectsApi

from tests.airflow.conftest import Run, wait_until
from tests.cluster.dag.lab import HELD, ClusterLab, task_log, trials
from tests.cluster.own import OwnCluster
from trialflow.records import Trial, TrialStatus

PAGE = Path(__file__).parents[3] / "docs" / "kubeflow.md"
# Thirty are promised, and twelve measured; a machine on which two clusters start takes its time.
REASON_SECONDS = 45.0
# What the label of a waiting trial says, which has room for the beginning of the reason.
LABELS = {
    "a quota of no pods, then raised": "exceeded quota: none",
    "its image not to be had": "ErrImagePull: |ImagePullBackOff: ",
    "the operator stopped, then started": "the training operator does not answer",
}
# What the first two trials do by themselves; the others run until they are let go.
OWN_FAULTS = f"""
import sys, time
import nni
if nni.get_sequence_id() == 0:
    print("this is the last line", file=sys.stderr)
    sys.exit(1)
if nni.get_sequence_id() == 1:
    print("this is the last line", file=sys.stderr)
    time.sleep(1)
    print(len(bytearray(1 << 28)))
{HELD}"""


@dataclass(frozen=True)
class Row:
    """A row of the table: a cause of failure and its consequences; any of the reasons may be given."""

    reasons: tuple[str, ...]
    status: str
    jobs: int
    told: str


def read_table() -> dict[str, Row]:
    """The table under the heading ``What counts as a failure``: cause → the rest of its row."""
    section = PAGE.read_text().split("\n## What counts as a failure\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows if len(row) == 5]
    return {
        cause: Row(tuple(reason.strip("`").split("` or `")), status.strip("`"), int(jobs), told.strip("`"))
        for cause, reason, status, jobs, told in cells[1:]
    }


TABLE = read_table()


@dataclass
class Case:
    """The trial that had a cause of failure."""

    run: Run
    number: int = 0
    # How long it took until row, log and label of a waiting trial said why.
    seconds_to_reason: float = 0.0

    @property
    def trial(self) -> Trial | None:
        return next((trial for trial in trials(self.run) if trial.number == self.number), None)

    def wait(self, *, attempt: int = 1, status: TrialStatus = TrialStatus.RUNNING) -> Trial:
        """Wait until the trial has this status in this attempt."""

        def reached() -> Trial | None:
            trial = self.trial
            return trial if trial and (trial.attempt, trial.status) == (attempt, status) else None

        found: Trial = wait_until(reached, f"trial {self.number} to be {status} in attempt {attempt}", 180)
        return found

    def wait_for_reason(self, cause: str) -> None:
        """Wait until the row, the log and the label of the waiting trial say why it waits."""
        reason = TABLE[cause].reasons[0]
        trial = wait_until(lambda: self.trial, "the trial")
        index = trial.slot.index

        def label() -> str:
            instances = self.run.task_instances()
            labels = [
                item["rendered_map_index"]
                for item in instances
                if (item["task_id"], item["map_index"]) == ("trial.await", index)
            ]
            return labels[0] or "" if labels else ""

        wait_until(lambda: self.trial and reason in self.trial.reason, f"the row to say {reason!r}", 60)
        wait_until(lambda: reason in task_log(self.run, "trial.await", index), "the log to say why", 60)
        wait_until(lambda: re.search(LABELS[cause], label()), "the label to say why", 60)
        self.seconds_to_reason = time.time() - trial.claimed_at


@pytest.fixture(scope="module")
def cases(lab: ClusterLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Case]]:
    """Every cause, injected while the experiments run side by side; cause → its trial, ended."""
    if not isinstance(lab.cluster, OwnCluster):
        pytest.skip("a cluster that was given to the tests is not broken by them")
    try:
        yield _Injection(lab, lab.cluster, tmp_path_factory.mktemp("causes")).carry_out()
    finally:
        for part in lab.cluster.parts:
            lab.cluster.start(part)
        lab.cluster.wait_ready()


class _Injection:
    def __init__(self, lab: ClusterLab, cluster: OwnCluster, folder: Path) -> None:
        self.lab = lab
        self.cluster = cluster
        self.core = CoreV1Api(lab.client)
        self.full = cluster.make_namespace("full")
        self.core.create_namespaced_resource_quota(
            self.full, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
        )
        self.second = cluster.second_node()
        no_image = {**self._on_first_node(), "image": "trialflow.test/nowhere:1"}
        own = self._start(folder / "own", code=OWN_FAULTS, trials=4)
        self.cases = {
            "the command ended with code 1": Case(own, 0),
            "killed for its memory": Case(own, 1),
            "its pod evicted": Case(own, 2),
            "its job deleted by somebody": Case(own, 3),
            "its node deleted": Case(self._start(folder / "node", role=self._on_second_node())),
            "its image not to be had": Case(self._start(folder / "image", role=no_image)),
            "a quota of no pods, then raised": Case(
                self._start(folder / "quota", cluster=lab.storage(namespace=self.full))
            ),
            "the operator stopped, then started": Case(
                self._start(folder / "operator", trials=2, trialConcurrency=1), number=1
            ),
        }

    def _start(self, folder: Path, *, trials: int = 1, role: Any = None, code: str = HELD, **changes: Any) -> Run:
        trial = {"codeDir": ".", "worker": self.lab.role(**(role or self._on_first_node()))}
        changes = {"trialConcurrency": trials, **changes}
        return self.lab.start(folder, code, trial=trial, maxTrialNum=trials, **changes)

    def _on_first_node(self) -> dict[str, Any]:
        return {"podTemplate": {"spec": {"nodeSelector": {"kubernetes.io/hostname": self.cluster.nodes[0]}}}}

    def _on_second_node(self) -> dict[str, Any]:
        """For pods that like the second node best, and any other one if there is none."""
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [self.second]}
        wish = {"weight": 100, "preference": {"matchExpressions": [here]}}
        affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}}
        return {"podTemplate": {"spec": {"affinity": affinity}}}

    def carry_out(self) -> dict[str, Case]:
        cases = self.cases
        self._delete_node(cases["its node deleted"])
        self._evict(cases["its pod evicted"])
        self._delete_job(cases["its job deleted by somebody"])
        with ThreadPoolExecutor() as pool:
            waiting = ("a quota of no pods, then raised", "its image not to be had")
            list(pool.map(lambda cause: cases[cause].wait_for_reason(cause), waiting))
        self.core.delete_namespaced_resource_quota("none", self.full)
        self._stop_operator(cases["the operator stopped, then started"])
        for case in cases.values():
            self.lab.release(case.run, case.number)
        for run in {case.run.run_id: case.run for case in cases.values()}.values():
            run.wait()
        return cases

    def _evict(self, case: Case) -> None:
        (pod,) = self._pods(case.wait())
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        self.core.create_namespaced_pod_eviction(pod, self.lab.namespace, eviction)

    def _delete_job(self, case: Case) -> None:
        name = (case.wait().job or {})["name"]
        jobs = CustomObjectsApi(self.lab.client)
        jobs.delete_namespaced_custom_object("kubeflow.org", "v1", self.lab.namespace, "tfjobs", name)

    def _delete_node(self, case: Case) -> None:
        (pod,) = self._pods(case.wait())
        assert self.core.read_namespaced_pod(pod, self.lab.namespace).spec.node_name == self.second
        self.cluster.lose_node(self.second)
        self.core.delete_node(self.second)

    def _stop_operator(self, case: Case) -> None:
        """Stop it when one trial runs, and let another one be submitted."""
        running = Case(case.run)
        running.wait()
        self.cluster.kill("operator")
        with self.lab.airflow.web("admin") as client:
            answer = client.put(
                f"/experiments/{case.run.experiment_id}/experiment?update_type=TRIAL_CONCURRENCY",
                json={"params": {"trialConcurrency": 2}},
            )
            answer.raise_for_status()
        case.wait_for_reason("the operator stopped, then started")
        self.cluster.start("operator")
        self.lab.release(running.run, running.number)

    def _pods(self, trial: Trial) -> list[str]:
        found = self.core.list_namespaced_pod(self.lab.namespace, label_selector=f"trialId={trial.id}")
        return [pod.metadata.name for pod in found.items]


def test_the_table_has_the_causes_that_are_injected(cases: dict[str, Case]) -> None:
    assert set(cases) == set(TABLE)


@pytest.mark.parametrize("cause", list(TABLE))
def test_a_trial_becomes_what_the_table_says(lab: ClusterLab, cases: dict[str, Case], cause: str) -> None:
    case, row = cases[cause], TABLE[cause]
    trial = case.trial
    assert trial is not None
    assert (trial.status.value, trial.attempt) == (row.status, row.jobs), trial.reason
    assert case.run.told()[trial.number] == row.told
    if row.told == "COMPLETE":
        assert (trial.value, trial.reason) == ((trial.parameters or {})["x"], "")
    else:
        assert any(reason in trial.reason for reason in row.reasons)
    log = task_log(case.run, "trial.await", trial.slot.index)
    assert any(reason in log for reason in row.reasons)
    assert case.seconds_to_reason < REASON_SECONDS
    assert lab.objects(case.run) == {}


@pytest.mark.parametrize(("cause", "code"), [("the command ended with code 1", 1), ("killed for its memory", 137)])
def test_a_failed_trial_ends_with_its_last_words(cases: dict[str, Case], cause: str, code: int) -> None:
    trial = cases[cause].trial
    assert trial is not None
    assert trial.exit_code == code
    last = [line for line in trial.reason.splitlines() if line != "Killed"][-1]  # As shells say of what was killed.
    assert last == "this is the last line"
