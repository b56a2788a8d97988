"""The connection to the cluster comes from Airflow's connections, in a worker and in the triggerer alike."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRescheduleException
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from tests.unit.kubeflow_lab import Lab, make_lab, make_role, make_running_lab, make_training
from trialflow.errors import TrainingError
from trialflow.experiment.running import ExperimentSteps
from trialflow.records import Slot, Trial, TrialStatus
from trialflow.settings import get_settings
from trialflow.testing import make_spec
from trialflow.testing.fake_cluster import FakeCluster
from trialflow.testing.fake_operator import set_condition
from trialflow.training.kubeflow import waiting_pods
from trialflow.training.kubeflow.connection import cluster_api, use_cluster
from trialflow_airflow import cluster as airflow_cluster
from trialflow_airflow import operators
from trialflow_airflow.identity import following_run_id
from trialflow_airflow.triggers import TrialTrigger

ID = "kubernetes_team"


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    with FakeCluster() as fake:
        yield fake


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Connection]]:
    """What Airflow knows; nobody but us has touched the way to the cluster before and after."""
    known: dict[str, Connection] = {}

    def get(conn_id: str) -> Connection:
        if conn_id not in known:
            raise AirflowNotFoundException(conn_id)
        return known[conn_id]

    async def aget(conn_id: str) -> Connection:
        return get(conn_id)

    monkeypatch.setattr(BaseHook, "get_connection", get)
    monkeypatch.setattr(BaseHook, "aget_connection", aget)
    monkeypatch.setattr(airflow_cluster._Triggerer, "extras", None)
    yield known
    use_cluster(None)


def connection(fake: FakeCluster, folder: Path, namespace: str) -> Connection:
    file = folder / f"{namespace}.kubeconfig"
    file.write_text(json.dumps(fake.kubeconfig()))
    extra = {"kube_config_path": str(file), "namespace": namespace}
    return Connection(conn_id=ID, conn_type="kubernetes", extra=json.dumps(extra))


def test_a_worker_fetches_the_connection_when_it_is_needed(
    fake: FakeCluster, connections: dict[str, Connection], tmp_path: Path
) -> None:
    airflow_cluster.connect(ID)
    connections[ID] = connection(fake, tmp_path, "team")
    api = cluster_api()
    assert (api.address, api.namespace) == (fake.url, "team")
    assert api.get("/apis/kubeflow.org")["kind"] == "APIGroup"
    api.close()


def test_the_triggerer_fetches_it_beforehand_and_again_when_it_has_changed(
    fake: FakeCluster, connections: dict[str, Connection], tmp_path: Path
) -> None:
    connections[ID] = connection(fake, tmp_path, "team")
    asyncio.run(airflow_cluster.aconnect(ID))
    api = cluster_api()
    asyncio.run(airflow_cluster.aconnect(ID))
    assert cluster_api() is api
    connections[ID] = connection(fake, tmp_path, "other")
    asyncio.run(airflow_cluster.aconnect(ID))
    assert cluster_api().namespace == "other"


def follow_one(lab: Lab, name: str, code: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ExperimentSteps, Trial]:
    """A submitted trial, for a triggerer that knows nothing of the cluster yet."""
    monkeypatch.setenv("TRIALFLOW_HOME", str(lab.settings.home))
    monkeypatch.setenv("TRIALFLOW_KUBERNETES_CONNECTION", ID)
    get_settings.cache_clear()
    training = make_training(lab.storage, worker=make_role("sleep 1"))
    spec = make_spec(platform="kubeflow", training=training, code_directory=str(code), code_root=str(code))
    steps, run = ExperimentSteps.create(name, spec, lab.settings, "dag"), following_run_id(name, 2)
    steps.stage_code()
    steps.start()
    steps.plan_batch(2, run)
    trial = steps.trials.suggest(Slot(2, 0), run)
    assert isinstance(trial, Trial)
    steps.context.submit(trial)
    use_cluster(None)
    return steps, trial


def test_a_trial_is_followed_in_the_triggerer_over_airflow_s_connection(
    connections: dict[str, Connection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    with make_running_lab(tmp_path) as lab:
        steps, trial = follow_one(lab, "expaaaaa", code, monkeypatch)
        connections[ID] = connection(lab.cluster, tmp_path, "default")

        async def follow() -> list[object]:
            return [event async for event in TrialTrigger("expaaaaa", trial.id).run()]

        assert [type(event) for event in asyncio.run(follow())] == [TaskSuccessEvent]
        assert steps.context.store.get_trial("expaaaaa", trial.id).status is TrialStatus.SUCCEEDED
    get_settings.cache_clear()


def test_a_trial_that_waits_is_handed_back_once_for_its_label(
    connections: dict[str, Connection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_pods, "PATIENCE_SECONDS", -1.0)
    (tmp_path / "code").mkdir()
    with make_lab(tmp_path) as lab:
        steps, trial = follow_one(lab, "expbbbbb", tmp_path / "code", monkeypatch)
        connections[ID] = connection(lab.cluster, tmp_path, "default")

        async def next_event(trigger: TrialTrigger) -> TriggerEvent:
            return await anext(trigger.run())

        event = asyncio.run(next_event(TrialTrigger(steps.context.id, trial.id)))
        assert "the operator has not taken the job up" in event.payload["reason"]

        name, arguments = TrialTrigger(steps.context.id, trial.id, event.payload["reason"]).serialize()
        again = resolve_name(name)(**arguments)
        threading.Timer(2.0, set_condition, [lab.cluster, lab.cluster.all("tfjobs")[0], "Succeeded"]).start()
        assert isinstance(asyncio.run(next_event(again)), TaskSuccessEvent)
    get_settings.cache_clear()


def test_a_trial_s_tasks_outlast_a_cluster_that_is_away(
    connections: dict[str, Connection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "_UNAVAILABLE_SECONDS", 0.1)
    monkeypatch.setattr(operators, "connect", MagicMock())
    (tmp_path / "code").mkdir()
    run = following_run_id("expccccc", 2)
    context = {"ti": SimpleNamespace(dag_id="dag", run_id=run, map_index=0)}
    with make_lab(tmp_path) as lab:
        steps, trial = follow_one(lab, "expccccc", tmp_path / "code", monkeypatch)
        connections[ID] = connection(lab.cluster, tmp_path, "default")
        lab.cluster.go_away()

        with pytest.raises(AirflowRescheduleException):
            operators.TrialReportOperator(task_id="report").execute(context)

        assert steps.context.store.get_trial(steps.context.id, trial.id).reported_at is None
        threading.Timer(1.0, lab.cluster.come_back).start()
        operators.CleanupOperator(task_id="cleanup").execute(context)
        assert lab.cluster.all("tfjobs") == []
        assert steps.context.store.get_trial(steps.context.id, trial.id).reported_at is not None
    get_settings.cache_clear()


@pytest.mark.parametrize("command", ["scheduler", "triggerer"])
def test_a_process_that_forks_has_loaded_what_its_children_need(command: str, tmp_path: Path) -> None:
    code = f"import sys; sys.argv[1:] = [{command!r}]; import airflow.settings; print(*sys.modules)"
    settings = {
        "AIRFLOW_HOME": str(tmp_path),
        "TRIALFLOW_HOME": str(tmp_path),
        "TRIALFLOW_STORAGE_MOUNTS": f"a:/b={tmp_path}",
    }
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **settings}, capture_output=True, text=True, check=True
    )
    assert {"trialflow_airflow.triggers", "optuna", airflow_cluster._HOOK_MODULE} <= set(run.stdout.split())


def test_a_connection_that_is_missing_says_how_to_add_it(connections: dict[str, Connection]) -> None:
    airflow_cluster.connect(ID)
    with pytest.raises(TrainingError, match=f"airflow connections add {ID} --conn-type kubernetes"):
        cluster_api()
    with pytest.raises(TrainingError, match="TRIALFLOW_KUBERNETES_CONNECTION"):
        asyncio.run(airflow_cluster.aconnect(ID))


def test_a_connection_that_leads_nowhere_is_named_without_its_content(connections: dict[str, Connection]) -> None:
    extra = json.dumps({"kube_config": '{"token": "s3cr3t"}', "in_cluster": True})
    connections[ID] = Connection(conn_id=ID, conn_type="kubernetes", extra=extra)
    airflow_cluster.connect(ID)
    with pytest.raises(TrainingError, match="leads to no cluster") as raised:
        cluster_api()
    assert "s3cr3t" not in str(raised.value)
