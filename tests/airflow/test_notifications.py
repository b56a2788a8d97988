"""Airflow's notifiers tell of experiments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from private_airflow.installation import CHECKOUT
from trialflow.errors import TrialflowError
from trialflow.records import ExperimentStatus
from trialflow.settings import NotifierSettings, get_settings
from trialflow.store import Store
from trialflow.testing import make_spec
from trialflow_airflow.notifications import SendNoticesOperator, make_notification_dag, make_notifier

from .conftest import NOTICES, Lab, wait_until

NOTIFICATIONS = "nni_notifications"
FILE_NOTIFIER = "tests.airflow.file_notifier.FileNotifier"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("TRIALFLOW_HOME", str(tmp_path))
    get_settings.cache_clear()
    yield monkeypatch
    get_settings.cache_clear()


def use(settings: pytest.MonkeyPatch, path: str, **kwargs: Any) -> None:
    settings.setenv("TRIALFLOW_NOTIFIERS", json.dumps([{"path": path, "kwargs": kwargs}]))


def end_an_experiment(folder: Path) -> None:
    store = Store(f"sqlite:///{folder / 'trialflow.db'}")
    store.create_experiment("expaaaaa", make_spec(name="digits"), str(folder))
    store.change_status("expaaaaa", ExperimentStatus.ERROR, from_=[ExperimentStatus.INITIALIZED], reason="no luck")


def test_a_notifier_of_airflow_tells_once_and_finds_the_notice_in_its_templates(
    settings: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    box = tmp_path / "box"
    text = "{{ notice.event }}: {{ notice.text }} {{ notice.experiment_name }} {{ run_id }}"
    use(settings, FILE_NOTIFIER, file=str(box), text=text)
    end_an_experiment(tmp_path)
    for _ in range(2):
        SendNoticesOperator(task_id="send").execute({"run_id": "run-1"})
    assert box.read_text() == "failed: Experiment digits (expaaaaa) has failed: no luck digits run-1\n"


def test_a_notifier_that_fails_fails_the_task_until_it_has_told(settings: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(settings, FILE_NOTIFIER, file=str(tmp_path / "missing" / "box"), text="told")
    end_an_experiment(tmp_path)
    for _ in range(2):
        with pytest.raises(AirflowFailException, match=r"expaaaaa: .*FileNotifier did not tell 'failed at"):
            SendNoticesOperator(task_id="send").execute({})
    (tmp_path / "missing").mkdir()
    SendNoticesOperator(task_id="send").execute({})
    assert (tmp_path / "missing" / "box").read_text() == "told\n"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no.such.Notifier", "install its provider"),
        ("tests.airflow.file_notifier.Missing", "install its provider"),
        ("pathlib.Path", "must name subclasses of airflow.sdk.BaseNotifier"),
        ("json.dumps", "must name subclasses of airflow.sdk.BaseNotifier"),
    ],
)
def test_what_is_no_notifier_is_refused(path: str, message: str) -> None:
    with pytest.raises(TrialflowError, match=message):
        make_notifier(NotifierSettings(path=path))


def test_the_notifier_of_the_documentation_is_one(settings: pytest.MonkeyPatch) -> None:
    text = (CHECKOUT / "docs" / "operating.md").read_text()
    settings.setenv("TRIALFLOW_NOTIFIERS", text.partition("TRIALFLOW_NOTIFIERS='")[2].partition("'")[0])
    (notifier,) = get_settings().notifiers
    assert make_notifier(notifier).subject == "{{ notice.experiment_name }}: {{ notice.event }}"


def test_there_is_a_dag_for_it_only_where_a_notifier_is_set(settings: pytest.MonkeyPatch) -> None:
    settings.delenv("TRIALFLOW_NOTIFIERS", raising=False)
    assert make_notification_dag() is None
    get_settings.cache_clear()
    use(settings, FILE_NOTIFIER)
    dag = make_notification_dag()
    assert dag is not None
    assert (dag.task_ids, dag.max_active_runs, dag.catchup) == (["send_notices"], 1, False)


def scheduled_runs(lab: Lab) -> list[dict[str, Any]]:
    return [run for run in lab.dag_runs(NOTIFICATIONS, "success") if run["run_type"] == "scheduled"]


def test_the_dag_tells_of_an_experiment_that_is_done(lab: Lab, tmp_path: Path) -> None:
    run = lab.start(tmp_path / "told")
    assert run.wait() == "success"
    # It runs every minute; this run of it need not be waited for.
    wait_until(lambda: scheduled_runs(lab), "a scheduled run")
    lab.client.trigger(NOTIFICATIONS, {})
    box = lab.installation.home / NOTICES
    told = wait_until(
        lambda: box.exists() and [line for line in box.read_text().splitlines() if run.experiment_id in line],
        "the notification",
    )
    assert told == [f"done {run.experiment_id} told: {min(trial.value for trial in run.trials)}"]
