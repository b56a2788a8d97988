"""The life of an experiment on the local service, its verbs called as the DAG's tasks call them, without Airflow."""

from __future__ import annotations

import csv
import json
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from trialflow import claim_rules
from trialflow.assessors import get_assessor
from trialflow.errors import ConflictError
from trialflow.experiment.running import ExperimentSteps
from trialflow.experiment.showing.nni_views import show_trial
from trialflow.records import AlgorithmSpec, ExperimentStatus, Outcome, Slot, Trial, TrialStatus
from trialflow.store import ClaimRefusal, Store
from trialflow.training.local import LocalTrainingService

from .lab import GOOD, RUN, TIMEOUT_SECONDS, again, follow, live, live_a_trial, make_steps, states_of, study_of, suggest


def snapshot(steps: ExperimentSteps) -> list[Any]:
    """Everything that the store and the study know."""
    trials = steps.context.store.list_trials(steps.context.id)
    study = [(trial.number, trial.state.name, trial.params, trial.value) for trial in study_of(steps).get_trials()]
    return [steps.context.refresh(), trials, [steps.context.store.list_metrics(trial) for trial in trials], study]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_experiment_lives_through_all_its_batches(tmp_path: Path, concurrency: int) -> None:
    steps = make_steps(tmp_path, trial_concurrency=concurrency, max_trial_number=10)
    most_alive = []
    watching = threading.Event()

    def watch_the_cap() -> None:
        while not watching.wait(0.01):
            most_alive.append(steps.context.store.count_live(steps.context.id))

    watcher = threading.Thread(target=watch_the_cap)
    watcher.start()
    answers = live(steps)
    watching.set()
    watcher.join()

    trials = steps.context.store.list_trials(steps.context.id)
    assert len(answers) == len(trials) == 10
    assert [trial.number for trial in trials] == list(range(10))
    assert {trial.status for trial in trials} == {TrialStatus.SUCCEEDED}
    assert all(trial.value == (trial.parameters or {})["x"] for trial in trials)
    assert max(most_alive) == concurrency
    assert states_of(steps) == ["COMPLETE"] * 10
    assert [trial.value for trial in study_of(steps).get_trials()] == [trial.value for trial in trials]


def test_one_at_a_time_every_suggestion_knows_every_earlier_result(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, trial_concurrency=1, max_trial_number=4)

    live(steps)

    trials = steps.context.store.list_trials(steps.context.id)
    for earlier, later in pairwise(trials):
        assert earlier.reported_at is not None
        assert earlier.reported_at <= later.claimed_at


def test_the_conclusion_names_the_best_trial_and_leaves_the_files(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, trial_concurrency=3, max_trial_number=5)
    live(steps)
    assert steps.trials.is_idle()

    result = steps.conclude()

    best = max(steps.context.store.list_trials(steps.context.id), key=lambda trial: trial.value or 0)
    assert result.best == best
    assert (result.experiment.status, result.counts) == (ExperimentStatus.DONE, {"SUCCEEDED": 5})
    folder = Path(steps.context.experiment.folder)
    assert json.loads((folder / "result.json").read_text())["best"]["id"] == best.id
    with (folder / "trials.csv").open() as file:
        assert [float(row["value"]) for row in csv.DictReader(file)] == [
            trial.value for trial in steps.context.store.list_trials(steps.context.id)
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
    steps = make_steps(tmp_path, code)
    assert follow(steps, suggest(steps, 0)).value == 0.5


def test_a_verb_that_is_called_again_changes_nothing(tmp_path: Path) -> None:
    gate = tmp_path / "open"
    code = f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.02)\n{GOOD}"
    steps = make_steps(tmp_path, code, trial_concurrency=1, max_trial_number=1)
    spec = steps.context.experiment.spec

    def twice(verb: Any, *args: Any) -> Any:
        first = verb(*args)
        before = snapshot(steps)
        other = again(steps)
        parts = {type(part): part for part in (other, other.trials, other.context)}
        for caller in (verb, getattr(parts[type(verb.__self__)], verb.__name__)):
            assert caller(*args) == first, verb.__name__
            assert snapshot(steps) == before, verb.__name__
        return first

    before = snapshot(steps)
    ExperimentSteps.create(steps.context.id, spec, steps.context.settings)
    assert snapshot(steps) == before
    twice(steps.stage_code)
    twice(steps.start)
    (slot,) = twice(steps.plan_batch, 1, RUN)
    trial = steps.trials.suggest(slot, RUN)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    # Then nothing changes before the gate opens.
    while steps.trials.suggest(slot, RUN).status is not TrialStatus.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    trial = twice(steps.trials.suggest, slot, RUN)
    trial = twice(steps.context.submit, trial)
    gate.touch()
    ended = follow(steps, trial)
    assert follow(again(steps), ended) == ended
    twice(steps.trials.report, ended)
    twice(steps.trials.report_ended)
    twice(steps.trials.is_idle)
    assert twice(steps.plan_next_batch, 1, "run-2") is None
    assert twice(steps.conclude).best.id == trial.id
    assert twice(steps.close_run, 1, RUN) is True
    assert steps.context.experiment.status is ExperimentStatus.DONE


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
    steps = make_steps(
        tmp_path, trial_concurrency=16, max_trial_number=200, search_space=space, tuner=AlgorithmSpec(name)
    )
    most, live = 0, []
    for index in range(200):
        while (answer := steps.trials.suggest(Slot(1, index), RUN)) in (ClaimRefusal.NO_ROOM, ClaimRefusal.GIVE_WAY):
            steps.context.store.set_ended(live.pop(0), Outcome(TrialStatus.SUCCEEDED), float(index % 7))
        if isinstance(answer, ClaimRefusal):
            break
        live.append(answer)
        most = max(most, steps.context.store.count_live(steps.context.id))

    trials = steps.context.store.list_trials(steps.context.id)
    tried = {json.dumps(trial.parameters, sort_keys=True) for trial in trials}
    assert (answer, len(tried), index, most) == (ClaimRefusal.TUNER_EXHAUSTED, 80, 80, 16)
    assert steps.context.refresh().status is ExperimentStatus.TUNER_NO_MORE_TRIAL
    assert steps.trials.suggest(Slot(1, 199), RUN) is ClaimRefusal.TUNER_EXHAUSTED
    for trial in live:  # What runs goes on to its end.
        steps.context.store.set_ended(trial, Outcome(TrialStatus.SUCCEEDED), 9.0)
    assert steps.trials.is_idle()
    assert steps.plan_next_batch(1, "run-2") is None
    result = steps.conclude()
    trials = steps.context.store.list_trials(steps.context.id)
    assert (steps.context.experiment.status, len(trials)) == (ExperimentStatus.DONE, 80)
    assert "suggested everything" in steps.context.experiment.status_reason
    assert result.best is not None


def test_the_next_batch_is_planned_once_and_only_while_trials_are_left(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, trial_concurrency=9, max_trial_number=6)
    assert len(steps.plan_batch(1, RUN)) == 4
    for index in range(4):
        suggest(steps, index)

    assert steps.plan_next_batch(1, "run-2") == 2
    assert steps.plan_next_batch(1, "run-2") == 2
    assert steps.plan_batch(2, "run-2") == [Slot(2, 0), Slot(2, 1)]


def test_an_experiment_that_cannot_claim_a_single_trial_ends_with_an_error(tmp_path: Path) -> None:
    steps = make_steps(tmp_path)
    steps.plan_batch(1, RUN)

    assert steps.plan_next_batch(1, "run-2") is None

    assert steps.context.refresh().status is ExperimentStatus.ERROR
    assert "batch 1" in steps.context.experiment.status_reason


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
    steps = make_steps(tmp_path, code)

    ended = steps.trials.report(follow(steps, suggest(steps, 0)))

    assert ended.status is status
    assert reason in ended.reason
    assert bool(ended.reason) is bool(reason)
    assert states_of(steps) == [state]


def test_what_a_trial_reported_before_it_failed_is_shown_and_does_not_count(tmp_path: Path) -> None:
    code = "import nni, os\nnni.get_next_parameter()\nnni.report_final_result(0.93)\nos._exit(139)"
    steps = make_steps(tmp_path, code, goal=0.5, max_trial_number=1)

    ended = steps.trials.report(follow(steps, suggest(steps, 0)))

    assert (ended.status, ended.exit_code, ended.value) == (TrialStatus.FAILED, 139, None)
    assert "its final metric of 0.93 does not count, because it failed" in ended.reason
    shown = show_trial(ended, steps.context.store.list_finals(steps.context.id)[ended.id])
    assert json.loads(json.loads(shown["finalMetricData"][0]["data"])) == 0.93
    assert (states_of(steps), steps.context.refresh().status) == (["FAIL"], ExperimentStatus.RUNNING)
    assert steps.conclude().best is None


def test_failed_trials_count_against_the_limit(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, "raise SystemExit(3)", trial_concurrency=3, max_trial_number=3)

    live(steps)

    assert [trial.exit_code for trial in steps.context.store.list_trials(steps.context.id)] == [3, 3, 3]
    result = steps.conclude()
    assert (result.best, result.counts) == (None, {"FAILED": 3})


def test_after_the_duration_nothing_new_starts_and_what_runs_may_finish(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, "import time\ntime.sleep(1.5)\n" + GOOD, max_duration_seconds=1.0)
    trial = suggest(steps, 0)
    steps.context.submit(trial)
    assert not again(steps).context.experiment.is_overdue(time.time())
    time.sleep(1.1)

    assert steps.trials.suggest(Slot(1, 1), RUN) is ClaimRefusal.DURATION_OVER
    assert steps.trials.has_news()
    assert steps.plan_next_batch(1, "run-2") is None
    assert follow(steps, trial).status is TrialStatus.SUCCEEDED
    assert steps.trials.is_idle()
    assert steps.conclude().experiment.status is ExperimentStatus.DONE


def test_a_run_that_hands_over_cancels_its_own_trials_only(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, "import time\ntime.sleep(60)", trial_concurrency=3, max_trial_number=8)
    steps.plan_batch(1, RUN)
    steps.context.submit(suggest(steps, 0))
    assert steps.plan_next_batch(1, "run-2") == 2
    theirs = steps.trials.suggest(Slot(2, 0), "run-2")
    assert isinstance(theirs, Trial)
    steps.context.submit(theirs)

    assert steps.close_run(1, RUN) is False

    ours = steps.context.store.list_trials(steps.context.id)[0]
    assert (ours.status, ours.reason) == (TrialStatus.USER_CANCELED, f"the run {RUN} was stopped")
    assert steps.context.refresh().status is ExperimentStatus.RUNNING
    assert [trial.id for trial in steps.context.store.list_unreported(steps.context.id)] == [theirs.id]
    assert steps.close_run(2, "run-2") is True
    assert steps.context.experiment.status is ExperimentStatus.STOPPED
    assert states_of(steps) == ["FAIL", "FAIL"]


@pytest.mark.parametrize(("batch", "run_id"), [(1, "run-7"), (2, RUN), (999_999, "run-999999")])
def test_a_run_clears_up_behind_its_own_batch_only(tmp_path: Path, batch: int, run_id: str) -> None:
    steps = make_steps(tmp_path, "import time\ntime.sleep(60)", max_trial_number=9)
    steps.plan_batch(1, RUN)
    trial = suggest(steps, 0)
    steps.plan_next_batch(1, "run-2")

    with pytest.raises(ConflictError, match=f"'{run_id}' was not planned to carry batch {batch} of experiment"):
        steps.close_run(batch, run_id)

    assert steps.context.refresh().status is ExperimentStatus.RUNNING
    assert steps.context.store.get_trial(steps.context.id, trial.id).ended_at is None
    steps.close_run(2, "run-2")


def test_a_run_that_ends_behind_a_finished_experiment_is_the_last(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, max_trial_number=1)
    live(steps)
    steps.conclude()

    assert steps.close_run(1, RUN) is True

    assert steps.context.experiment.status is ExperimentStatus.DONE


def test_a_suggestion_gives_way_to_one_that_was_killed_behind_its_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalTrainingService, "is_cheap", False)
    steps = make_steps(tmp_path, trial_concurrency=1)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "set_parameters", die)
        with pytest.raises(KeyboardInterrupt):
            suggest(steps, 0)
    assert steps.trials.find_refusal() is not ClaimRefusal.GIVE_WAY
    assert not steps.trials.has_news()

    monkeypatch.setattr(claim_rules, "SUBMISSION_SECONDS", 0.0)

    assert steps.trials.find_refusal() is ClaimRefusal.GIVE_WAY
    assert steps.trials.has_news()


def test_a_suggestion_gives_way_to_one_that_was_killed_behind_its_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalTrainingService, "is_cheap", False)
    steps = make_steps(tmp_path, "import time\ntime.sleep(60)", trial_concurrency=1)
    trial = suggest(steps, 0)
    assert trial.job is not None
    assert not steps.trials.has_news()

    monkeypatch.setattr(claim_rules, "HANDOVER_SECONDS", 0.0)
    assert steps.trials.find_refusal() is ClaimRefusal.GIVE_WAY
    assert steps.trials.has_news()

    steps.trials.hand_over(trial)
    assert not steps.trials.has_news()
    steps.close_run(1, RUN)


def test_a_suggestion_does_not_give_way_to_a_trial_that_was_submitted_or_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = make_steps(tmp_path, "import time\ntime.sleep(60)", trial_concurrency=2)
    running, cancelled = suggest(steps, 0), suggest(steps, 1)
    steps.context.submit(running)
    steps.trials.end(cancelled, TrialStatus.USER_CANCELED, "by hand")

    monkeypatch.setattr(claim_rules, "SUBMISSION_SECONDS", 0.0)

    assert steps.trials.find_refusal() is not ClaimRefusal.GIVE_WAY
    steps.close_run(1, RUN)


def test_a_cancelled_trial_keeps_the_result_that_it_had_already(tmp_path: Path) -> None:
    steps = make_steps(tmp_path)
    ended = follow(steps, suggest(steps, 0))

    kept = steps.trials.end(ended, TrialStatus.USER_CANCELED, "too late")

    assert (kept.status, kept.value, kept.reason) == (TrialStatus.SUCCEEDED, ended.value, ended.reason)
    assert states_of(steps) == ["COMPLETE"]


def test_a_suggestion_that_waits_for_room_reports_what_has_ended(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, trial_concurrency=1, max_trial_number=2)
    first = suggest(steps, 0)
    steps.context.submit(first)
    deadline = time.monotonic() + TIMEOUT_SECONDS

    while (second := steps.trials.suggest(Slot(1, 1), RUN)) is ClaimRefusal.NO_ROOM:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert isinstance(second, Trial)
    assert steps.context.store.get_trial(steps.context.id, first.id).status is TrialStatus.SUCCEEDED
    assert states_of(steps) == ["COMPLETE", "RUNNING"]


def test_an_experiment_with_several_objectives_leaves_its_front(tmp_path: Path) -> None:
    code = """import nni
x = nni.get_next_parameter()["x"]
metric = {"default": x, "cost": round(x * 4) % 3}
nni.report_final_result(metric if nni.get_sequence_id() else {"default": x})
"""
    tuner = AlgorithmSpec(
        "NSGAII", {"optimize_mode": "maximize", "population_size": 3, "objectives": {"cost": "minimize"}}
    )
    steps = make_steps(tmp_path, code, tuner=tuner, max_trial_number=8, trial_concurrency=1)
    slots = [*steps.plan_batch(1, RUN), *(Slot(2, index) for index in range(4))]
    for slot in slots:
        live_a_trial(steps, slot, RUN)

    result = steps.conclude()

    folder = Path(steps.context.experiment.folder)
    written = json.loads((folder / "result.json").read_text())
    trials = steps.context.store.list_trials(steps.context.id)
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
    study = study_of(steps)
    assert {tuple(trial.values) for trial in study.best_trials} == {points[one] for one in front}


def test_the_metrics_of_a_trial_that_succeeded_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = make_steps(tmp_path, trial_concurrency=3, max_trial_number=4)
    read: list[str] = []
    list_metrics = Store.list_intermediate_metrics

    def watched(*arguments: Any, **options: Any) -> Any:
        found = list_metrics(*arguments, **options)
        read.extend(found)
        return found

    monkeypatch.setattr(Store, "list_intermediate_metrics", watched)
    assessor = get_assessor(AlgorithmSpec("Medianstop"))
    ended = [steps.trials.report(follow(steps, suggest(steps, index))) for index in range(2)]
    running = steps.context.store.claim(steps.context.id, Slot(1, 2), RUN)
    assert isinstance(running, Trial)
    for count in (2, 2, 3):
        if count == 3:
            ended.append(steps.trials.report(follow(steps, suggest(steps, 3))))
        x = [(trial.parameters or {})["x"] for trial in ended]
        assert sorted(steps.context.looks.histories(assessor, running)) == sorted([one, one + 1, one + 2] for one in x)
    assert sorted(read) == sorted(trial.id for trial in ended)


def test_a_trial_of_a_batch_gets_the_value_itself_whatever_it_is(tmp_path: Path) -> None:
    values: list[Any] = [0, "", [1, 2], {"x": 1}, False, 2.5]
    code = "import json, nni; print(json.dumps(nni.get_next_parameter())); nni.report_final_result(1)"
    space = {"combine_params": {"_type": "choice", "_value": values}}
    changes: dict[str, Any] = {"tuner": AlgorithmSpec("BatchTuner"), "search_space": space, "max_trial_number": 9}
    steps = make_steps(tmp_path, code, **changes)

    trials = [live_a_trial(steps, Slot(1, index), RUN) for index in range(len(values))]

    assert [trial.parameters for trial in trials if isinstance(trial, Trial)] == values
    assert steps.trials.suggest(Slot(1, 8), RUN) is ClaimRefusal.TUNER_EXHAUSTED
    folder = Path(steps.context.experiment.folder)
    printed = [
        json.loads(next((folder / "trials" / trial.id).rglob("stdout")).read_text())
        for trial in trials
        if isinstance(trial, Trial)
    ]
    assert printed == values
    result = steps.conclude()
    assert result.best is not None
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert [row["parameter.value"] for row in rows] == ["0", "", "[1, 2]", "", "False", "2.5"]
    assert [show_trial(trial, None)["hyperParameters"] for trial in trials if isinstance(trial, Trial)]


def test_no_cell_of_the_table_is_executed_by_a_spreadsheet(tmp_path: Path) -> None:
    texts = [f"{blank}{mark}1" for blank in ("", "\t", "\r", "\n") for mark in "=+-@"]
    space = {"x": {"_type": "choice", "_value": texts}}
    tuner = AlgorithmSpec("GridSearch")
    steps = make_steps(tmp_path, "import nni", search_space=space, tuner=tuner, max_trial_number=len(texts))
    for index in range(len(texts)):
        steps.trials.suggest(Slot(1, index), RUN)
    steps.conclude()
    with (Path(steps.context.experiment.folder) / "trials.csv").open(newline="") as file:
        cells = [row["parameter.x"] for row in csv.DictReader(file)]
    assert cells
    assert all(cell.startswith("'") for cell in cells)
