"""The life of an experiment on the local service, its verbs called as the DAG's tasks call them, without Airflow."""

from __future__ import annotations

import csv
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import pytest

from trialflow.assessors import get_assessor
from trialflow.errors import ConflictError
from trialflow.experiment.running import ExperimentManager, TrialWatch
from trialflow.experiment.running import manager as manager_module
from trialflow.experiment.showing.nni_views import show_trial
from trialflow.experiment.showing.study import MOST_STEPS
from trialflow.records import AlgorithmSpec, ExperimentStatus, Outcome, Slot, Trial, TrialStatus
from trialflow.settings import Settings
from trialflow.store import ClaimRefusal, Store
from trialflow.testing import make_spec
from trialflow.training.local import LocalTrainingService

RUN = "run-1"
TIMEOUT_SECONDS = 90
GOOD = """import nni
x = nni.get_next_parameter()["x"]
for step in range(3):
    nni.report_intermediate_result(x + step)
nni.report_final_result(x)
"""


def make_manager(home: Path, code: str = GOOD, **changes: Any) -> ExperimentManager:
    """An experiment that lets trials be claimed."""
    folder = home / "code"
    folder.mkdir(parents=True)
    (folder / "trial.py").write_text(code)
    spec = make_spec(
        code_directory=str(folder),
        code_root=str(folder),
        training={"command": f"{sys.executable} trial.py"},
        **{"tuner": AlgorithmSpec("TPE"), **changes},
    )
    manager = ExperimentManager.create("expaaaaa", spec, Settings(home=home, batch_size=4))
    manager.stage_code()
    manager.start()
    return manager


def suggest(manager: ExperimentManager, index: int) -> Trial:
    trial = manager.suggest(Slot(1, index), RUN)
    assert isinstance(trial, Trial), trial
    return trial


def follow(manager: ExperimentManager, trial: Trial) -> Trial:
    watch = TrialWatch(manager, trial)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (ended := watch.poll()) is None:
        assert time.monotonic() < deadline, trial.label
        time.sleep(0.02)
    return ended


def live_a_trial(manager: ExperimentManager, slot: Slot, run_id: str) -> Trial | ClaimRefusal:
    """The four tasks of a slot, each with a manager of its own, as in Airflow."""

    def fresh() -> ExperimentManager:
        return ExperimentManager(manager.id, manager.settings)

    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (answer := fresh().suggest(slot, run_id)) is ClaimRefusal.NO_ROOM:
        assert time.monotonic() < deadline, slot
        time.sleep(0.05)
    if isinstance(answer, ClaimRefusal):
        return answer
    return fresh().report(follow(fresh(), fresh().submit(answer)))


def live(manager: ExperimentManager) -> list[Trial | ClaimRefusal]:
    """All batches of an experiment, the slots of a batch in threads."""
    answers: list[Trial | ClaimRefusal] = []
    batch: int | None = 1
    while batch is not None:
        run_id = f"run-{batch}"
        slots = manager.plan_batch(batch, run_id)
        with ThreadPoolExecutor(len(slots)) as pool:
            answers += pool.map(lambda slot, run_id=run_id: live_a_trial(manager, slot, run_id), slots)
        batch = manager.plan_next_batch(batch, f"run-{batch + 1}")
    return answers


def study_of(manager: ExperimentManager) -> optuna.Study:
    return optuna.load_study(study_name=manager.id, storage=manager.store.url)


def told(manager: ExperimentManager) -> list[str]:
    return [trial.state.name for trial in study_of(manager).get_trials(deepcopy=False)]


def snapshot(manager: ExperimentManager) -> list[Any]:
    """Everything that the store and the study know."""
    trials = manager.store.list_trials(manager.id)
    study = [(trial.number, trial.state.name, trial.params, trial.value) for trial in study_of(manager).get_trials()]
    return [manager.refresh(), trials, [manager.store.list_metrics(trial) for trial in trials], study]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_experiment_lives_through_all_its_batches(tmp_path: Path, concurrency: int) -> None:
    manager = make_manager(tmp_path, trial_concurrency=concurrency, max_trial_number=10)
    most_alive = []
    watching = threading.Event()

    def watch_the_cap() -> None:
        while not watching.wait(0.01):
            most_alive.append(manager.store.count_live(manager.id))

    watcher = threading.Thread(target=watch_the_cap)
    watcher.start()
    answers = live(manager)
    watching.set()
    watcher.join()

    trials = manager.store.list_trials(manager.id)
    assert len(answers) == len(trials) == 10
    assert [trial.number for trial in trials] == list(range(10))
    assert {trial.status for trial in trials} == {TrialStatus.SUCCEEDED}
    assert all(trial.value == (trial.parameters or {})["x"] for trial in trials)
    assert max(most_alive) == concurrency
    assert told(manager) == ["COMPLETE"] * 10
    assert [trial.value for trial in study_of(manager).get_trials()] == [trial.value for trial in trials]


def test_one_at_a_time_every_suggestion_knows_every_earlier_result(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, trial_concurrency=1, max_trial_number=4)

    live(manager)

    trials = manager.store.list_trials(manager.id)
    for earlier, later in pairwise(trials):
        assert earlier.reported_at is not None
        assert earlier.reported_at <= later.claimed_at


def test_the_conclusion_names_the_best_trial_and_leaves_the_files(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, trial_concurrency=3, max_trial_number=5)
    live(manager)
    assert manager.is_idle()

    result = manager.conclude()

    best = max(manager.store.list_trials(manager.id), key=lambda trial: trial.value or 0)
    assert result.best == best
    assert (result.experiment.status, result.counts) == (ExperimentStatus.DONE, {"SUCCEEDED": 5})
    folder = Path(manager.experiment.folder)
    assert json.loads((folder / "result.json").read_text())["best"]["id"] == best.id
    with (folder / "trials.csv").open() as file:
        assert [float(row["value"]) for row in csv.DictReader(file)] == [
            trial.value for trial in manager.store.list_trials(manager.id)
        ]
    assert (folder / "history.png").read_bytes().startswith(b"\x89PNG")


def test_a_final_metric_behind_many_others_counts(tmp_path: Path) -> None:
    code = """
import os, nni
nni.get_next_parameter()
folder = os.path.join(os.environ["NNI_SYS_DIR"], ".nni")
os.makedirs(folder, exist_ok=True)
with open(os.path.join(folder, "metrics"), "ab") as file:
    file.write(b"epoch 1\\n" * 700_000)
nni.report_final_result(0.5)
"""
    manager = make_manager(tmp_path, code)
    assert follow(manager, suggest(manager, 0)).value == 0.5


def test_a_verb_that_is_called_again_changes_nothing(tmp_path: Path) -> None:
    gate = tmp_path / "open"
    code = f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.02)\n{GOOD}"
    manager = make_manager(tmp_path, code, trial_concurrency=1, max_trial_number=1)
    spec = manager.experiment.spec

    def twice(verb: Any, *args: Any) -> Any:
        first = verb(*args)
        before = snapshot(manager)
        for caller in (manager, ExperimentManager(manager.id, manager.settings)):
            assert getattr(caller, verb.__name__)(*args) == first, verb.__name__
            assert snapshot(manager) == before, verb.__name__
        return first

    before = snapshot(manager)
    ExperimentManager.create(manager.id, spec, manager.settings)
    assert snapshot(manager) == before
    twice(manager.stage_code)
    twice(manager.start)
    (slot,) = twice(manager.plan_batch, 1, RUN)
    trial = manager.suggest(slot, RUN)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while manager.suggest(slot, RUN).status is not TrialStatus.RUNNING:  # Then nothing changes before the gate opens.
        assert time.monotonic() < deadline
        time.sleep(0.02)
    trial = twice(manager.suggest, slot, RUN)
    trial = twice(manager.submit, trial)
    gate.touch()
    ended = follow(manager, trial)
    assert follow(ExperimentManager(manager.id, manager.settings), ended) == ended
    twice(manager.report, ended)
    twice(manager.settle)
    twice(manager.is_idle)
    assert twice(manager.plan_next_batch, 1, "run-2") is None
    assert twice(manager.conclude).best.id == trial.id
    assert twice(manager.close_run, 1, RUN) is True
    assert manager.experiment.status is ExperimentStatus.DONE


@pytest.mark.parametrize("name", ["TPE", "Random", "Evolution", "Anneal", "GridSearch"])
def test_a_finite_space_is_tried_point_by_point_and_then_the_experiment_ends_as_exhausted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(LocalTrainingService, "is_cheap", False)
    monkeypatch.setattr(LocalTrainingService, "submit", lambda *_: None)
    space = {
        "a": {"_type": "choice", "_value": [1, 2, 4, 8]},
        "b": {"_type": "randint", "_value": [0, 5]},
        "c": {"_type": "choice", "_value": ["x", "y", "z", "w"]},
    }
    manager = make_manager(
        tmp_path, trial_concurrency=16, max_trial_number=200, search_space=space, tuner=AlgorithmSpec(name)
    )
    most, live = 0, []
    for index in range(200):
        while (answer := manager.suggest(Slot(1, index), RUN)) is ClaimRefusal.NO_ROOM:
            manager.store.set_ended(live.pop(0), Outcome(TrialStatus.SUCCEEDED), float(index % 7))
        if isinstance(answer, ClaimRefusal):
            break
        live.append(answer)
        most = max(most, manager.store.count_live(manager.id))

    tried = {json.dumps(trial.parameters, sort_keys=True) for trial in manager.store.list_trials(manager.id)}
    assert (answer, len(tried), index, most) == (ClaimRefusal.TUNER_EXHAUSTED, 80, 80, 16)
    assert manager.refresh().status is ExperimentStatus.TUNER_NO_MORE_TRIAL
    assert manager.suggest(Slot(1, 199), RUN) is ClaimRefusal.TUNER_EXHAUSTED
    for trial in live:  # What runs goes on to its end.
        manager.store.set_ended(trial, Outcome(TrialStatus.SUCCEEDED), 9.0)
    assert manager.is_idle()
    assert manager.plan_next_batch(1, "run-2") is None
    result = manager.conclude()
    assert (manager.experiment.status, len(manager.store.list_trials(manager.id))) == (ExperimentStatus.DONE, 80)
    assert "suggested everything" in manager.experiment.status_reason
    assert result.best is not None


def test_the_next_batch_is_planned_once_and_only_while_trials_are_left(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, trial_concurrency=9, max_trial_number=6)
    assert len(manager.plan_batch(1, RUN)) == 4
    for index in range(4):
        suggest(manager, index)

    assert manager.plan_next_batch(1, "run-2") == 2
    assert manager.plan_next_batch(1, "run-2") == 2
    assert manager.plan_batch(2, "run-2") == [Slot(2, 0), Slot(2, 1)]


def test_an_experiment_that_cannot_claim_a_single_trial_ends_with_an_error(tmp_path: Path) -> None:
    manager = make_manager(tmp_path)
    manager.plan_batch(1, RUN)

    assert manager.plan_next_batch(1, "run-2") is None

    assert manager.refresh().status is ExperimentStatus.ERROR
    assert "batch 1" in manager.experiment.status_reason


@pytest.mark.parametrize(
    ("code", "status", "reason", "state"),
    [
        ("import nni\nnni.get_next_parameter()\nraise SystemExit('broken')", TrialStatus.FAILED, "broken", "FAIL"),
        ("import nni\nnni.get_next_parameter()", TrialStatus.SUCCEEDED, "no final metric", "FAIL"),
        ("import nni\nnni.report_final_result('x')", TrialStatus.SUCCEEDED, "no valid final metric", "FAIL"),
        ("import nni\nnni.report_final_result({'default': 2})", TrialStatus.SUCCEEDED, "", "COMPLETE"),
    ],
)
def test_a_trial_without_a_result_is_told_as_failed(
    tmp_path: Path, code: str, status: TrialStatus, reason: str, state: str
) -> None:
    manager = make_manager(tmp_path, code)

    ended = manager.report(follow(manager, suggest(manager, 0)))

    assert ended.status is status
    assert reason in ended.reason
    assert bool(ended.reason) is bool(reason)
    assert told(manager) == [state]


def test_what_a_trial_reported_before_it_failed_is_shown_and_does_not_count(tmp_path: Path) -> None:
    code = "import nni, os\nnni.get_next_parameter()\nnni.report_final_result(0.93)\nos._exit(139)"
    manager = make_manager(tmp_path, code, goal=0.5, max_trial_number=1)

    ended = manager.report(follow(manager, suggest(manager, 0)))

    assert (ended.status, ended.exit_code, ended.value) == (TrialStatus.FAILED, 139, None)
    assert "its final metric of 0.93 does not count, because it failed" in ended.reason
    shown = show_trial(ended, manager.store.list_finals(manager.id)[ended.id])
    assert json.loads(shown["finalMetricData"][0]["data"]) == 0.93
    assert (told(manager), manager.refresh().status) == (["FAIL"], ExperimentStatus.RUNNING)
    assert manager.conclude().best is None


def test_failed_trials_count_against_the_limit(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, "raise SystemExit(3)", trial_concurrency=3, max_trial_number=3)

    live(manager)

    assert [trial.exit_code for trial in manager.store.list_trials(manager.id)] == [3, 3, 3]
    result = manager.conclude()
    assert (result.best, result.counts) == (None, {"FAILED": 3})


def test_after_the_duration_nothing_new_starts_and_what_runs_may_finish(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, "import time\ntime.sleep(1.5)\n" + GOOD, max_duration_seconds=1.0)
    trial = suggest(manager, 0)
    manager.submit(trial)
    assert not ExperimentManager(manager.id, manager.settings).is_overdue()
    time.sleep(1.1)

    assert manager.suggest(Slot(1, 1), RUN) is ClaimRefusal.DURATION_OVER
    assert manager.has_news()
    assert manager.plan_next_batch(1, "run-2") is None
    assert follow(manager, trial).status is TrialStatus.SUCCEEDED
    assert manager.is_idle()
    assert manager.conclude().experiment.status is ExperimentStatus.DONE


def test_a_run_that_hands_over_cancels_its_own_trials_only(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, "import time\ntime.sleep(60)", trial_concurrency=3, max_trial_number=8)
    manager.plan_batch(1, RUN)
    manager.submit(suggest(manager, 0))
    assert manager.plan_next_batch(1, "run-2") == 2
    theirs = manager.suggest(Slot(2, 0), "run-2")
    assert isinstance(theirs, Trial)
    manager.submit(theirs)

    assert manager.close_run(1, RUN) is False

    ours = manager.store.list_trials(manager.id)[0]
    assert (ours.status, ours.reason) == (TrialStatus.USER_CANCELED, f"the run {RUN} was stopped")
    assert manager.refresh().status is ExperimentStatus.RUNNING
    assert [trial.id for trial in manager.store.list_unreported(manager.id)] == [theirs.id]
    assert manager.close_run(2, "run-2") is True
    assert manager.experiment.status is ExperimentStatus.STOPPED
    assert told(manager) == ["FAIL", "FAIL"]


@pytest.mark.parametrize(("batch", "run_id"), [(1, "run-7"), (2, RUN), (999_999, "run-999999")])
def test_a_run_clears_up_behind_its_own_batch_only(tmp_path: Path, batch: int, run_id: str) -> None:
    manager = make_manager(tmp_path, "import time\ntime.sleep(60)", max_trial_number=9)
    manager.plan_batch(1, RUN)
    trial = suggest(manager, 0)
    manager.plan_next_batch(1, "run-2")

    with pytest.raises(ConflictError, match=f"'{run_id}' was not planned to carry batch {batch} of experiment"):
        manager.close_run(batch, run_id)

    assert manager.refresh().status is ExperimentStatus.RUNNING
    assert manager.store.get_trial(manager.id, trial.id).ended_at is None
    manager.close_run(2, "run-2")


def test_a_run_that_ends_behind_a_finished_experiment_is_the_last(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, max_trial_number=1)
    live(manager)
    manager.conclude()

    assert manager.close_run(1, RUN) is True

    assert manager.experiment.status is ExperimentStatus.DONE


def test_a_suggestion_gives_way_to_one_that_was_killed_behind_its_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalTrainingService, "is_cheap", False)
    manager = make_manager(tmp_path, trial_concurrency=1)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "set_parameters", die)
        with pytest.raises(KeyboardInterrupt):
            suggest(manager, 0)
    assert not manager.must_give_way()
    assert not manager.has_news()

    monkeypatch.setattr(manager_module, "_SUBMISSION_SECONDS", 0.0)

    assert manager.must_give_way()
    assert manager.has_news()


def test_a_suggestion_gives_way_to_one_that_was_killed_behind_its_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalTrainingService, "is_cheap", False)
    manager = make_manager(tmp_path, "import time\ntime.sleep(60)", trial_concurrency=1)
    trial = suggest(manager, 0)
    assert trial.job is not None
    assert not manager.has_news()

    monkeypatch.setattr(manager_module, "_HANDOVER_SECONDS", 0.0)
    assert manager.must_give_way()
    assert manager.has_news()

    manager.hand_over(trial)
    assert not manager.has_news()
    manager.close_run(1, RUN)


def test_a_suggestion_does_not_give_way_to_a_trial_that_was_submitted_or_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make_manager(tmp_path, "import time\ntime.sleep(60)", trial_concurrency=2)
    running, cancelled = suggest(manager, 0), suggest(manager, 1)
    manager.submit(running)
    manager.cancel(cancelled, TrialStatus.USER_CANCELED, "by hand")

    monkeypatch.setattr(manager_module, "_SUBMISSION_SECONDS", 0.0)

    assert not manager.must_give_way()
    manager.close_run(1, RUN)


def test_a_cancelled_trial_keeps_the_result_that_it_had_already(tmp_path: Path) -> None:
    manager = make_manager(tmp_path)
    ended = follow(manager, suggest(manager, 0))

    kept = manager.cancel(ended, TrialStatus.USER_CANCELED, "too late")

    assert (kept.status, kept.value, kept.reason) == (TrialStatus.SUCCEEDED, ended.value, ended.reason)
    assert told(manager) == ["COMPLETE"]


def test_a_suggestion_that_waits_for_room_reports_what_has_ended(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, trial_concurrency=1, max_trial_number=2)
    first = suggest(manager, 0)
    manager.submit(first)
    deadline = time.monotonic() + TIMEOUT_SECONDS

    while (second := manager.suggest(Slot(1, 1), RUN)) is ClaimRefusal.NO_ROOM:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert isinstance(second, Trial)
    assert manager.store.get_trial(manager.id, first.id).status is TrialStatus.SUCCEEDED
    assert told(manager) == ["COMPLETE", "RUNNING"]


def test_an_experiment_with_several_objectives_leaves_its_front(tmp_path: Path) -> None:
    code = """import nni
x = nni.get_next_parameter()["x"]
metric = {"default": x, "cost": round(x * 4) % 3}
nni.report_final_result(metric if nni.get_sequence_id() else {"default": x})
"""
    tuner = AlgorithmSpec(
        "NSGAII", {"optimize_mode": "maximize", "population_size": 3, "objectives": {"cost": "minimize"}}
    )
    manager = make_manager(tmp_path, code, tuner=tuner, max_trial_number=8, trial_concurrency=1)
    slots = [*manager.plan_batch(1, RUN), *(Slot(2, index) for index in range(4))]
    for slot in slots:
        live_a_trial(manager, slot, RUN)

    result = manager.conclude()

    folder = Path(manager.experiment.folder)
    written = json.loads((folder / "result.json").read_text())
    trials = manager.store.list_trials(manager.id)
    assert trials[0].value is None
    assert "without the key 'cost'" in trials[0].reason
    valued = [trial for trial in trials if trial.value is not None]
    points = {trial.id: (trial.value or 0.0, round((trial.parameters or {})["x"] * 4) % 3) for trial in valued}

    def is_dominated(x: float, cost: int) -> bool:
        return any((a > x and b <= cost) or (a >= x and b < cost) for a, b in points.values())

    front = {one for one, point in points.items() if not is_dominated(*point)}
    assert {trial.id for trial in result.front} == front
    assert written["objectives"] == {"default": "maximize", "cost": "minimize"}
    assert {each["id"]: tuple(each["values"].values()) for each in written["front"]} == {
        one: points[one] for one in front
    }
    assert written["best"]["value"] == max(x for x, _ in points.values())
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["id"] for row in rows if row["front"] == "1"} == front
    assert [row["objective.cost"] for row in rows[1:]] == [str(float(points[row["id"]][1])) for row in rows[1:]]
    assert (folder / "front.png").stat().st_size > 1000
    study = optuna.load_study(study_name=manager.id, storage=manager.store.url)
    assert {tuple(trial.values) for trial in study.best_trials} == {points[one] for one in front}


def test_the_metrics_of_a_trial_that_succeeded_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = make_manager(tmp_path, trial_concurrency=3, max_trial_number=4)
    read: list[str] = []
    list_metrics = Store.list_intermediate_metrics

    def watched(*arguments: Any, **options: Any) -> Any:
        found = list_metrics(*arguments, **options)
        read.extend(found)
        return found

    monkeypatch.setattr(Store, "list_intermediate_metrics", watched)
    assessor = get_assessor(AlgorithmSpec("Medianstop"))
    ended = [manager.report(follow(manager, suggest(manager, index))) for index in range(2)]
    running = manager.store.claim(manager.id, Slot(1, 2), RUN)
    assert isinstance(running, Trial)
    for count in (2, 2, 3):
        if count == 3:
            ended.append(manager.report(follow(manager, suggest(manager, 3))))
        x = [(trial.parameters or {})["x"] for trial in ended]
        assert sorted(manager.histories(assessor, running)) == sorted([one, one + 1, one + 2] for one in x)
    assert sorted(read) == sorted(trial.id for trial in ended)


def test_the_study_takes_some_of_many_steps(tmp_path: Path) -> None:
    steps = 10 * MOST_STEPS + 7
    code = GOOD.replace("range(3)", f"range({steps})").replace("(x + step)", "(step)")
    manager = make_manager(tmp_path, code)

    manager.report(follow(manager, suggest(manager, 0)))

    (trial,) = study_of(manager).get_trials()
    assert MOST_STEPS / 2 < len(trial.intermediate_values) <= MOST_STEPS
    assert all(step == value for step, value in trial.intermediate_values.items())
    assert trial.last_step == steps - 1


def test_a_trial_of_a_batch_gets_the_value_itself_whatever_it_is(tmp_path: Path) -> None:
    values: list[Any] = [0, "", [1, 2], {"x": 1}, False, 2.5]
    code = "import json, nni; print(json.dumps(nni.get_next_parameter())); nni.report_final_result(1)"
    space = {"combine_params": {"_type": "choice", "_value": values}}
    changes: dict[str, Any] = {"tuner": AlgorithmSpec("BatchTuner"), "search_space": space, "max_trial_number": 9}
    manager = make_manager(tmp_path, code, **changes)

    trials = [live_a_trial(manager, Slot(1, index), RUN) for index in range(len(values))]

    assert [trial.parameters for trial in trials if isinstance(trial, Trial)] == values
    assert manager.suggest(Slot(1, 8), RUN) is ClaimRefusal.TUNER_EXHAUSTED
    folder = Path(manager.experiment.folder)
    printed = [
        json.loads(next((folder / "trials" / trial.id).rglob("stdout")).read_text())
        for trial in trials
        if isinstance(trial, Trial)
    ]
    assert printed == values
    result = manager.conclude()
    assert result.best is not None
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert [row["parameter.value"] for row in rows] == ["0", "", "[1, 2]", "", "False", "2.5"]
    assert [show_trial(trial, None)["hyperParameters"] for trial in trials if isinstance(trial, Trial)]
