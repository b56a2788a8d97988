"""The life of trials on the local service: each step may die anywhere and be run again."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest

from trialflow.experiment import ExperimentManager, TrialWatch
from trialflow.experiment.study import TRIAL_ATTRIBUTE, ExperimentStudy
from trialflow.records import AlgorithmSpec, ExperimentStatus, Outcome, Slot, Trial, TrialStatus
from trialflow.settings import Settings
from trialflow.store import ClaimRefusal, Store
from trialflow.testing import make_spec
from trialflow.training.local import LocalTrainingService

ID, RUN = "exp12345", "run-1"
SPACE = {"x": {"_type": "uniform", "_value": [0, 1]}, "y": {"_type": "uniform", "_value": [0, 1]}}
# How the trial of every experiment here begins: it notes that it ran, and with what.
TRIAL = """
import json, os, sys, time
import nni
with open({log!r}, "a") as log:
    log.write(json.dumps([nni.get_trial_id(), nni.get_next_parameter()]) + "\\n")
parameters = nni.get_next_parameter()
"""


@dataclass
class Bench:
    """An experiment in a folder of its own; ``script`` is what each trial runs after it has noted that it ran."""

    folder: Path
    script: str
    spec: dict[str, Any]
    settings: dict[str, Any]

    def start(self) -> ExperimentManager:
        code = self.folder / "code"
        code.mkdir()
        (code / "trial.py").write_text(TRIAL.format(log=str(self.log)) + self.script)
        manager = self.manager(create=True)
        manager.stage_code()
        manager.start()
        manager.plan_batch(1, RUN)
        return manager

    def manager(self, *, create: bool = False) -> ExperimentManager:
        """One that knows nothing but what is stored, as another process would."""
        settings = Settings(home=self.folder / "home", store="", **self.settings)
        if not create:
            return ExperimentManager(ID, settings)
        code = str(self.folder / "code")
        fields = {
            "search_space": SPACE,
            "code_directory": code,
            "code_root": code,
            "training": {"command": f"exec {sys.executable} -S trial.py"},
            **self.spec,
        }
        return ExperimentManager.create(ID, make_spec(**fields), settings)

    @property
    def log(self) -> Path:
        return self.folder / "ran"

    def ran(self) -> list[tuple[str, Any]]:
        """Id and parameters of each process that was a trial."""
        return [tuple(json.loads(line)) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def study(self) -> optuna.Study:
        return optuna.load_study(study_name=ID, storage=f"sqlite:///{self.folder / 'home' / 'trialflow.db'}")

    def states(self) -> list[tuple[str, str]]:
        """Of the study's trials: the ledger's id and the state."""
        return [(trial.user_attrs[TRIAL_ATTRIBUTE], trial.state.name) for trial in self.study().get_trials()]


GOOD = "nni.report_intermediate_result(parameters['x']); nni.report_final_result(parameters['x'] + parameters['y'])"


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    def make(script: str = GOOD, settings: dict[str, Any] | None = None, **spec: Any) -> Bench:
        return Bench(tmp_path, script, spec, settings or {})

    return make


def suggest(manager: ExperimentManager, index: int = 0) -> Trial:
    trial = manager.suggest(Slot(1, index), RUN)
    assert isinstance(trial, Trial), f"refused: {trial}"
    return trial


def follow(manager: ExperimentManager, trial: Trial) -> Trial:
    """Submit a trial and watch it to its end, without reporting it."""
    watch = TrialWatch(manager, trial)
    deadline = time.monotonic() + 30
    while (ended := watch.poll()) is None:
        assert time.monotonic() < deadline, "the trial did not end"
        time.sleep(0.01)
    return ended


def run_trial(manager: ExperimentManager, index: int = 0) -> Trial:
    return manager.report(follow(manager, suggest(manager, index)))


@pytest.fixture
def tells(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often the study was told each trial."""
    counts: Counter[int] = Counter()
    tell = optuna.Study.tell

    def counting(self: optuna.Study, trial: Any, *args: Any, **named: Any) -> Any:
        counts[trial] += 1
        return tell(self, trial, *args, **named)

    monkeypatch.setattr(optuna.Study, "tell", counting)
    return counts


def test_at_concurrency_1_each_suggestion_knows_every_result_before_it(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = bench(trial_concurrency=1, max_trial_number=4)
    manager = experiment.start()
    known = []
    ask = ExperimentStudy.ask

    def counting(self: ExperimentStudy, trial: Trial) -> Any:
        known.append(sum(state == "COMPLETE" for _, state in experiment.states()))
        return ask(self, trial)

    monkeypatch.setattr(ExperimentStudy, "ask", counting)
    deadline = time.monotonic() + 30
    # Nobody reports: the next suggestion settles what has ended before it.
    for index in range(4):
        while isinstance(trial := manager.suggest(Slot(1, index), RUN), ClaimRefusal):
            assert trial is ClaimRefusal.NO_ROOM
            assert time.monotonic() < deadline
            time.sleep(0.01)
        manager.submit(trial)
    assert known == [0, 1, 2, 3]
    follow(manager, manager.store.list_trials(ID)[-1])


def test_a_trial_is_told_once_when_it_is_reported_twice(bench: Callable[..., Bench], tells: Counter[int]) -> None:
    experiment = bench()
    manager = experiment.start()
    ended = follow(manager, suggest(manager))
    first = manager.report(ended)
    assert manager.report(ended) == first  # With the trial as it was before the report.
    assert manager.report(first) == first
    assert tells == {0: 1}
    assert experiment.states() == [(ended.id, "COMPLETE")]
    told = experiment.study().get_trials()[0]
    assert told.intermediate_values == {0: pytest.approx(first.parameters["x"])}  # type: ignore[index]
    assert told.value == first.value


REPORTS = """
import sys, time
from pathlib import Path
import optuna
from trialflow.experiment import ExperimentManager
from trialflow.settings import Settings
home, go, told = (Path(name) for name in sys.argv[1:])
manager = ExperimentManager("exp12345", Settings(home=home, store=""))
trial = manager.store.list_trials("exp12345")[0]
tell = optuna.Study.tell
def counting(*args, **named):
    with told.open("a") as file:
        file.write("told\\n")
    return tell(*args, **named)
optuna.Study.tell = counting
print("ready", flush=True)
while not go.exists():
    time.sleep(0.005)
manager.report(trial)
"""


def test_a_trial_is_told_once_when_two_processes_report_it(bench: Callable[..., Bench], tmp_path: Path) -> None:
    experiment = bench()
    manager = experiment.start()
    follow(manager, suggest(manager))
    go, told = tmp_path / "go", tmp_path / "told"
    command = [sys.executable, "-c", REPORTS, str(tmp_path / "home"), str(go), str(told)]
    reporters = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    for reporter in reporters:
        assert reporter.stdout is not None
        assert reporter.stdout.readline() == b"ready\n"
    go.touch()
    for reporter in reporters:
        reporter.communicate(timeout=30)
        assert reporter.returncode == 0
    assert told.read_text() == "told\n"
    assert [state for _, state in experiment.states()] == ["COMPLETE"]


# What a trial's steps write, in order; the study's two writes are Optuna's.
WRITES = [
    (Store, "claim"),
    (optuna.Study, "add_trial"),
    (Store, "set_parameters"),
    (LocalTrainingService, "submit"),
    (Store, "set_job"),
    (Store, "set_running"),
    (Store, "add_metrics"),
    (Store, "set_ended"),
    (LocalTrainingService, "cancel"),
    (optuna.Study, "tell"),
    (Store, "set_reported"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "name"), WRITES, ids=[name for _, name in WRITES])
def test_a_death_around_any_write_loses_no_trial_and_doubles_none(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, owner: type, name: str, when: str
) -> None:
    experiment = bench(max_trial_number=2)
    manager = experiment.start()
    write = getattr(owner, name)
    deaths = []

    def dying(*args: Any, **named: Any) -> Any:
        if deaths:
            return write(*args, **named)
        deaths.append(name)
        if when == "after":
            write(*args, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, dying)
    with pytest.raises(KeyboardInterrupt):
        run_trial(manager)
    # Another process runs the task again, and then the next.
    manager = experiment.manager()
    trials = [run_trial(manager, index) for index in range(2)]
    assert [(trial.number, trial.status, trial.attempt) for trial in trials] == [
        (0, TrialStatus.SUCCEEDED, 1),
        (1, TrialStatus.SUCCEEDED, 1),
    ]
    assert manager.store.list_trials(ID) == trials
    assert manager.store.count_live(ID) == 0
    assert experiment.ran() == [(trial.id, trial.parameters) for trial in trials]
    assert experiment.states() == [(trial.id, "COMPLETE") for trial in trials]
    assert [trial.value for trial in experiment.study().get_trials()] == [trial.value for trial in trials]


def test_a_suggestion_that_was_cut_off_is_the_one_that_would_have_been(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = bench().start()
    suggested = []

    def dying(self: Store, trial: Trial, parameters: Any, number: int) -> None:
        suggested.append((parameters, number))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "set_parameters", dying)
        with pytest.raises(KeyboardInterrupt):
            suggest(manager)
    trial = suggest(manager)
    assert (trial.parameters, trial.sampler_number) == suggested[0]


def test_a_lost_job_is_made_again_with_the_same_parameters_as_often_as_allowed(bench: Callable[..., Bench]) -> None:
    experiment = bench("os.kill(0, 9)", settings={"trial_attempts": 3})
    manager = experiment.start()
    trial = run_trial(manager)
    assert (trial.status, trial.attempt) == (TrialStatus.FAILED, 3)
    assert "vanished" in trial.reason
    assert experiment.ran() == [(trial.id, trial.parameters)] * 3
    assert experiment.states() == [(trial.id, "FAIL")]


def test_a_job_that_is_lost_once_succeeds_the_second_time(bench: Callable[..., Bench]) -> None:
    lost_first = "nni.report_intermediate_result(9)\nif not os.path.exists('../lost'):\n"
    lost_first += "    open('../lost', 'w').close()\n    os.kill(0, 9)\n"
    experiment = bench(lost_first + "nni.report_final_result(1)")
    manager = experiment.start()
    trial = run_trial(manager)
    assert (trial.status, trial.attempt, trial.value) == (TrialStatus.SUCCEEDED, 2, 1.0)
    assert len(manager.store.list_metrics(trial)) == 2


def test_a_trial_worse_than_the_median_is_stopped_early_and_told_as_pruned(bench: Callable[..., Bench]) -> None:
    script = """
good = nni.get_sequence_id() == 0
for step in range(3):
    nni.report_intermediate_result(1.0 if good else 0.1)
if not good:
    time.sleep(600)
nni.report_final_result(1)
"""
    experiment = bench(script, assessor=AlgorithmSpec("Medianstop", {"optimize_mode": "maximize"}))
    manager = experiment.start()
    first, second = run_trial(manager), run_trial(manager, 1)
    assert (first.status, second.status) == (TrialStatus.SUCCEEDED, TrialStatus.EARLY_STOPPED)
    assert "Medianstop stopped it at step" in second.reason
    assert second.value is None
    assert experiment.states() == [(first.id, "COMPLETE"), (second.id, "PRUNED")]
    state = manager.training.poll(manager.training.handle(manager.job_request(second)))
    assert state.outcome is not None, "its job was not cleared away"


@pytest.mark.parametrize(
    ("script", "status", "reason"),
    [
        ("sys.exit('out of memory')", TrialStatus.FAILED, "exit code 1\nout of memory"),
        ("pass", TrialStatus.SUCCEEDED, "no final metric"),
        ("nni.report_final_result(float('nan'))", TrialStatus.SUCCEEDED, "no valid final metric: the metric is nan"),
    ],
)
def test_a_trial_without_a_result_is_told_as_failed_and_says_why(
    bench: Callable[..., Bench], script: str, status: TrialStatus, reason: str
) -> None:
    experiment = bench(script)
    trial = run_trial(experiment.start())
    assert (trial.status, trial.value) == (status, None)
    assert reason in trial.reason
    assert experiment.states() == [(trial.id, "FAIL")]


def test_closing_a_run_that_was_stopped_cancels_its_trials_and_stops_the_experiment(
    bench: Callable[..., Bench],
) -> None:
    experiment = bench("time.sleep(600)")
    manager = experiment.start()
    trial = manager.submit(suggest(manager))
    unsubmitted = suggest(manager, 1)
    assert manager.close_run(1, RUN)
    assert manager.experiment.status is ExperimentStatus.STOPPED
    for cancelled in (manager.store.get_trial(ID, trial.id), manager.store.get_trial(ID, unsubmitted.id)):
        assert cancelled.status is TrialStatus.USER_CANCELED
        assert cancelled.reason == f"the run {RUN} was stopped"
    assert experiment.states() == [(trial.id, "FAIL"), (unsubmitted.id, "FAIL")]
    assert manager.training.poll(manager.training.handle(manager.job_request(trial))).outcome is not None
    assert manager.close_run(1, RUN), "closing may be repeated"


def test_a_submit_that_comes_after_the_cancel_starts_nothing(bench: Callable[..., Bench]) -> None:
    experiment = bench()
    manager = experiment.start()
    trial = suggest(manager)
    manager.cancel(trial, TrialStatus.USER_CANCELED, "by hand")
    manager.submit(trial)  # With the trial as it was before.
    time.sleep(0.5)
    assert experiment.ran() == []
    assert manager.store.get_trial(ID, trial.id).status is TrialStatus.USER_CANCELED


def test_closing_an_older_run_leaves_the_newer_one_alone(bench: Callable[..., Bench]) -> None:
    manager = bench(settings={"batch_size": 1}).start()
    run_trial(manager)
    assert manager.plan_next_batch(1, "run-2") == 2
    newer = manager.suggest(Slot(2, 0), "run-2")
    assert isinstance(newer, Trial)
    assert not manager.close_run(1, RUN)
    assert manager.refresh().status is ExperimentStatus.RUNNING
    assert manager.store.get_trial(ID, newer.id).ended_at is None


def test_a_trial_that_ended_by_itself_keeps_its_result_when_it_is_cancelled(bench: Callable[..., Bench]) -> None:
    manager = bench().start()
    ended = follow(manager, suggest(manager))
    cancelled = manager.cancel(ended, TrialStatus.USER_CANCELED, "too late")
    assert (cancelled.status, cancelled.value) == (TrialStatus.SUCCEEDED, ended.value)


def test_a_cancelled_trial_keeps_the_time_of_its_start(bench: Callable[..., Bench]) -> None:
    manager = bench().start()
    trial = suggest(manager)
    manager.store.set_running(trial, 12.5)
    manager.store.set_ended(trial, Outcome(TrialStatus.USER_CANCELED), None)  # By one that saw it before it ran.
    assert manager.store.get_trial(ID, trial.id).started_at == 12.5


def test_an_experiment_that_is_concluded_leaves_its_results(bench: Callable[..., Bench]) -> None:
    experiment = bench(max_trial_number=4)
    manager = experiment.start()
    trials = [run_trial(manager, index) for index in range(4)]
    assert manager.is_idle()
    result = manager.conclude()
    best = max(trials, key=lambda trial: trial.value or 0.0)
    assert result.best == best
    folder = Path(manager.experiment.folder)
    written = json.loads((folder / "result.json").read_text())
    assert written == result.to_json()
    assert (written["status"], written["best"]["id"], written["trials"]) == ("DONE", best.id, {"SUCCEEDED": 4})
    with (folder / "trials.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["id"] for row in table] == [trial.id for trial in trials]
    assert [float(row["parameter.x"]) for row in table] == [trial.parameters["x"] for trial in trials]  # type: ignore[index]
    for picture in ("history.png", "importance.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    assert not list(folder.glob(".*"))
    assert manager.conclude().to_json() == written, "concluding may be repeated"


def test_an_experiment_without_a_value_is_concluded_without_pictures(bench: Callable[..., Bench]) -> None:
    manager = bench("sys.exit(1)", max_trial_number=1).start()
    run_trial(manager)
    result = manager.conclude()
    assert (result.best, result.counts) == (None, {"FAILED": 1})
    assert sorted(path.name for path in Path(manager.experiment.folder).glob("*.*")) == ["result.json", "trials.csv"]


def test_an_experiment_that_never_started_is_concluded_with_an_error(bench: Callable[..., Bench]) -> None:
    manager = bench().manager(create=True)
    assert manager.conclude().experiment.status is ExperimentStatus.ERROR


def test_the_next_batch_is_planned_once_while_trials_are_left(bench: Callable[..., Bench]) -> None:
    manager = bench(trial_concurrency=3, max_trial_number=3, settings={"batch_size": 2}).start()
    assert manager.plan_batch(1, RUN) == [Slot(1, 0), Slot(1, 1)]
    suggest(manager, 0)
    suggest(manager, 1)
    assert manager.plan_next_batch(1, "run-2") == 2
    assert manager.plan_next_batch(1, "run-2") == 2
    assert manager.plan_batch(2, "run-2") == [Slot(2, 0)]
    assert isinstance(manager.suggest(Slot(2, 0), "run-2"), Trial)
    assert manager.plan_next_batch(2, "run-3") is None
    assert manager.store.newest_batch(ID) == 2


@pytest.mark.parametrize("status", [ExperimentStatus.STOPPED, ExperimentStatus.DONE, ExperimentStatus.ERROR])
def test_an_ended_experiment_has_no_next_batch(bench: Callable[..., Bench], status: ExperimentStatus) -> None:
    manager = bench().start()
    suggest(manager)
    manager.store.change_status(ID, status, from_=[ExperimentStatus.RUNNING])
    assert manager.plan_next_batch(1, "run-2") is None
    assert manager.store.newest_batch(ID) == 1


def test_an_overdue_experiment_has_no_next_batch(bench: Callable[..., Bench]) -> None:
    manager = bench(max_duration_seconds=0.0).start()
    assert not manager.is_overdue(), "the duration counts from the first trial"
    suggest(manager)
    assert manager.plan_next_batch(1, "run-2") is None
    assert manager.is_overdue()


def test_a_batch_that_could_not_claim_a_trial_ends_the_experiment(bench: Callable[..., Bench]) -> None:
    manager = bench().start()
    assert manager.plan_next_batch(1, "run-2") is None
    assert manager.refresh().status is ExperimentStatus.ERROR
    assert "no trial of batch 1 could be claimed" in manager.experiment.status_reason


def test_a_place_that_becomes_free_is_news(bench: Callable[..., Bench]) -> None:
    manager = bench(trial_concurrency=1).start()
    trial = suggest(manager)
    assert not manager.has_news()
    assert not manager.is_idle()
    manager.cancel(trial, TrialStatus.USER_CANCELED, "by hand")
    assert manager.has_news()
    assert manager.is_idle()
