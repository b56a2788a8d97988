"""Lists as NNI's clients ask for them: without a limit, and with everything in the answer."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy.exc import OperationalError

from trialflow.errors import ConfigError
from trialflow.records import Experiment, ExperimentStatus, KnownPoint, Slot, Trial, TrialStatus
from trialflow.store import ReportedMetric
from trialflow.testing import make_spec

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # What Airflow's web application brings along is deprecated.
    from fastapi import Response

    from trialflow_airflow.airflow_internals import DagRun, DagRunAlreadyExists
    from trialflow_airflow.web import app, experiments, routes, runs
    from trialflow_airflow.web.access import Visit


class FakeStore:
    """So many trials, each with a metric."""

    def __init__(self, total: int) -> None:
        self.trials = [
            Trial("expaaaaa", f"{number:05}", number, Slot(1, 0), "run", TrialStatus.SUCCEEDED, 1, 0.0)
            for number in range(total)
        ]
        self.metrics = [ReportedMetric(trial.id, trial.number, "FINAL", 0, "1", 0.0) for trial in self.trials]

    def page_trials(self, _id: str, _status: Any, limit: int, offset: int) -> Any:
        return self.trials[offset : offset + limit], len(self.trials)

    def page_metrics(self, _id: str, _query: Any, limit: int, offset: int) -> Any:
        return self.metrics[offset : offset + limit], len(self.metrics)

    def get_trial(self, _id: str, trial_id: str) -> Trial:
        return next(trial for trial in self.trials if trial.id == trial_id)

    def list_finals(self, _id: str) -> Any:
        return {}

    def page_known_points(self, _id: str, limit: int, offset: int) -> Any:
        points = [KnownPoint({"x": number}, 1.0) for number in range(len(self.trials))]
        return points[offset : offset + limit], len(points)


def visit(total: int) -> Visit:
    experiment = Experiment(
        "expaaaaa", make_spec(), ExperimentStatus.RUNNING, "", "/none", None, 1, 1, 1.0, 0.0, None, None
    )
    return Visit(experiment, "ann", cast("Any", FakeStore(total)))


@pytest.mark.parametrize("failures", [0, 2])
def test_a_run_is_triggered_once_however_often_the_database_is_busy(
    monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    tried: list[str] = []

    def trigger(_dag: str, *, run_id: str, **_: Any) -> None:
        tried.append(run_id)
        if len(tried) <= failures:
            raise OperationalError("INSERT", {}, Exception("database is locked"))

    monkeypatch.setattr(runs, "trigger_dag", trigger)
    monkeypatch.setattr(runs, "_require_unpaused", lambda _: None)
    _, run_id = runs.start_experiment("nni_experiment", {"config": "/config.yml"}, "ann")
    assert tried == [run_id] * (failures + 1)


def test_a_run_that_is_there_already_counts_as_triggered(monkeypatch: pytest.MonkeyPatch) -> None:
    def trigger(*_: Any, **__: Any) -> None:
        raise DagRunAlreadyExists(DagRun("nni_experiment", run_id="manual__1"))

    monkeypatch.setattr(runs, "trigger_dag", trigger)
    runs._trigger("nni_experiment", "manual__1", {}, "ann")


def test_a_database_that_stays_busy_is_said_in_a_sentence() -> None:
    busy = OperationalError("SELECT", {}, Exception("database is locked"))
    answer = app._answer_busy(cast("Any", None), busy)
    assert (answer.status_code, "try again in a moment" in answer.body.decode()) == (503, True)
    with pytest.raises(OperationalError):
        app._answer_busy(cast("Any", None), OperationalError("SELECT", {}, Exception("no such table")))


LISTS = [routes.list_trials, routes.list_metrics, routes.list_latest_metrics, routes.list_imported_data]


@pytest.mark.parametrize("list_all", LISTS)
def test_a_list_comes_whole_unless_a_part_is_asked_for(list_all: Any) -> None:
    whole = list_all(visit(12_000))
    part = list_all(visit(12_000), limit=2, offset=11_999)

    assert (len(json.loads(whole.body)), whole.headers["X-Total-Count"]) == (12_000, "12000")
    assert (len(json.loads(part.body)), part.headers["X-Total-Count"]) == (1, "12000")


@pytest.mark.parametrize("list_all", [experiments.list_experiments, experiments.list_metadata])
def test_all_experiments_are_listed_unless_a_part_is_asked_for(
    list_all: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [replace(visit(0).experiment, id=f"{number:08}") for number in range(150)]
    monkeypatch.setattr(experiments, "list_readable", lambda _user: known)

    def list_ids(**part: int) -> tuple[list[str], str]:
        response = Response()
        listed = list_all(cast("Any", None), response, **part)
        return [item["id"] for item in listed], response.headers["X-Total-Count"]

    assert list_ids() == ([experiment.id for experiment in known], "150")
    assert list_ids(limit=2, offset=100) == (["00000100", "00000101"], "150")


@pytest.mark.parametrize("list_all", LISTS)
def test_what_is_too_much_for_one_answer_is_refused_and_not_cut(
    list_all: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "_MOST_TRIALS", 5)
    monkeypatch.setattr(routes, "_MOST_METRICS", 5)
    monkeypatch.setattr(routes, "_MOST_IMPORTED", 5)

    with pytest.raises(ConfigError, match="is needed, for there are 6 entries, and one answer holds 5 at most"):
        list_all(visit(6))
    assert len(json.loads(list_all(visit(6), limit=3).body)) == 3
    assert len(json.loads(list_all(visit(6), offset=1).body)) == 5


def test_a_file_of_a_trial_comes_whole_or_in_parts_and_is_never_cut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "trials" / "00000"
    folder.mkdir(parents=True)
    (folder / "stdout").write_text("0123456789")
    (folder / "stderr").write_text("")
    here = visit(1)
    here = replace(here, experiment=replace(here.experiment, folder=str(tmp_path)))

    def read(name: Any, **part: int) -> str:
        return bytes(routes.get_trial_file(here, "00000", name, **part).body).decode()

    assert (read("trial.log"), read("stdout"), read("stderr")) == ("0123456789", "0123456789", "")
    monkeypatch.setattr(routes, "_LARGEST_FILE", 9)
    assert read("stdout", limit=3, offset=8) == "89"
    with pytest.raises(ConfigError, match="the file is larger than 9 bytes"):
        read("stdout")
