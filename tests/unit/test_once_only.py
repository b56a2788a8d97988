"""The claim, the cap and the once-only report, each against several processes or a death in the middle."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from trialflow.experiment.running import ExperimentManager, TrialWatch
from trialflow.experiment.running import manager as running
from trialflow.records import AlgorithmSpec, ExperimentSpec, Slot, Trial, TrialStatus
from trialflow.settings import Settings
from trialflow.store import ClaimRefusal, Store

from .studies import states_of

TRIAL = """import nni
params = nni.get_next_parameter()
nni.report_intermediate_result(params["x"])
nni.report_final_result(params["x"])
"""


def waiting_for(gate: Path) -> str:
    """A trial that ends when the file is there, or after a minute, for a test that fails leaves it behind."""
    wait = f"while not os.path.exists({str(gate)!r}) and time.time() < end:\n    time.sleep(0.02)\n"
    return f"import os, time\nend = time.time() + 60\n{wait}{TRIAL}"


def make_manager(
    home: Path, code: str = TRIAL, concurrency: int = 2, trials: int = 5, assessor: AlgorithmSpec | None = None
) -> ExperimentManager:
    folder = home / "code"
    folder.mkdir(parents=True)
    (folder / "trial.py").write_text(code)
    spec = ExperimentSpec(
        name="once",
        author="tests",
        trial_concurrency=concurrency,
        max_trial_number=trials,
        max_duration_seconds=3600.0,
        platform="local",
        search_space={"x": {"_type": "uniform", "_value": [0, 1]}, "y": {"_type": "choice", "_value": [1, 2]}},
        tuner=AlgorithmSpec("TPE"),
        assessor=assessor,
        code_directory=str(folder),
        code_root=str(folder),
        training={"command": f"{sys.executable} trial.py"},
    )
    manager = ExperimentManager.create("expaaaaa", spec, Settings(home=home))
    manager.stage_code()
    manager.start()
    return manager


def suggest(manager: ExperimentManager, index: int) -> Trial:
    trial = manager.suggest(Slot(1, index), "run")
    assert isinstance(trial, Trial)
    return trial


def run_to_end(manager: ExperimentManager, trial: Trial) -> Trial:
    watch = TrialWatch(manager, trial)
    deadline = time.monotonic() + 60
    while (ended := watch.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return ended


def _claim_and_hold(url: str, first: int, seen: multiprocessing.Queue[int]) -> None:
    store = Store(url)
    for index in range(first, first + 6):
        answer = store.claim("expaaaaa", Slot(1, index), "run")
        if isinstance(answer, Trial):
            seen.put(store.count_live("expaaaaa"))


def test_many_processes_never_claim_more_than_the_cap(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, concurrency=3, trials=50)
    context = multiprocessing.get_context("spawn")
    seen: multiprocessing.Queue[int] = context.Queue()
    workers = [
        context.Process(target=_claim_and_hold, args=(manager.store.url, first, seen)) for first in range(0, 24, 6)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert manager.store.count_live(manager.id) == 3
    assert sorted(trial.number for trial in manager.store.list_trials(manager.id)) == [0, 1, 2]
    assert max(seen.get(timeout=5) for _ in range(3)) <= 3


def test_a_slot_is_claimed_once_and_gives_the_same_trial_again(tmp_path: Path) -> None:
    gate = tmp_path / "open"
    manager = make_manager(tmp_path, waiting_for(gate))
    first, again = suggest(manager, 0), suggest(manager, 0)
    assert (again.id, again.parameters, again.job) == (first.id, first.parameters, first.job)
    assert len(manager.store.list_trials(manager.id)) == 1
    assert states_of(manager) == ["RUNNING"]
    gate.touch()


def test_no_room_then_no_trials_left(tmp_path: Path) -> None:
    gate = tmp_path / "open"
    manager = make_manager(tmp_path, waiting_for(gate), concurrency=1, trials=2)
    first = suggest(manager, 0)
    assert manager.suggest(Slot(1, 1), "run") is ClaimRefusal.NO_ROOM
    gate.touch()
    run_to_end(manager, first)
    second = suggest(manager, 1)
    assert manager.store.get_trial(manager.id, first.id).reported_at is not None
    run_to_end(manager, second)
    assert manager.suggest(Slot(1, 2), "run") is ClaimRefusal.NO_TRIALS_LEFT


def test_a_trial_that_is_reported_twice_is_told_once(tmp_path: Path) -> None:
    manager = make_manager(tmp_path)
    ended = run_to_end(manager, suggest(manager, 0))
    once = manager.report(ended)
    assert manager.report(ended) == once
    assert states_of(manager) == ["COMPLETE"]


def test_a_death_between_telling_and_noting_it_tells_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make_manager(tmp_path)
    ended = run_to_end(manager, suggest(manager, 0))

    def die(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "set_reported", die)
        with pytest.raises(KeyboardInterrupt):
            manager.report(ended)
    assert manager.store.count_live(manager.id) == 1
    manager.report(ended)
    assert (states_of(manager), manager.store.count_live(manager.id)) == (["COMPLETE"], 0)


def test_a_death_in_the_middle_of_an_ask_is_taken_up_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make_manager(tmp_path)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "set_parameters", die)
        with pytest.raises(KeyboardInterrupt):
            suggest(manager, 0)
    trial = suggest(manager, 0)
    assert trial.parameters is not None
    assert states_of(manager) == ["RUNNING"]


@pytest.mark.parametrize("verb", ["get_trial", "set_job"])
def test_a_death_behind_the_ask_leaves_one_trial_in_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    manager = make_manager(tmp_path)
    real, real_ask, asked_times = getattr(Store, verb), running.ask, []
    monkeypatch.setattr(running, "ask", lambda *given: asked_times.append(1) or real_ask(*given))

    def die(store: Store, *given: Any) -> Any:
        trials = store.list_trials(manager.id)
        if trials and trials[0].parameters is not None:
            raise KeyboardInterrupt
        return real(store, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Store, verb, die)
        with pytest.raises(KeyboardInterrupt):
            suggest(manager, 0)
    (asked,) = manager.store.list_trials(manager.id)
    trial = suggest(manager, 0)
    assert (trial.parameters, len(asked_times)) == (asked.parameters, 1)
    manager.report(run_to_end(manager, trial))
    assert states_of(manager) == ["COMPLETE"]


def test_a_submission_that_was_not_noted_starts_nothing_a_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    code = f"open({str(starts)!r}, 'a').write('x')\n{TRIAL}"
    manager = make_manager(tmp_path, code)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "set_job", die)
        with pytest.raises(KeyboardInterrupt):
            suggest(manager, 0)
    trial = suggest(manager, 0)
    assert trial.job is not None
    ended = run_to_end(manager, trial)
    manager.training.submit(manager.job_request(trial))  # a task that was sent off before the end, and came late
    time.sleep(0.3)  # A second start would leave its mark by now.
    assert (ended.status, ended.attempt, starts.read_text()) == (TrialStatus.SUCCEEDED, 1, "x")


def test_a_lost_job_is_submitted_again_with_the_same_parameters(tmp_path: Path) -> None:
    code = f"""import os, time
import nni
params = nni.get_next_parameter()
if not os.path.exists({str(tmp_path / "lost")!r}):
    open({str(tmp_path / "lost")!r}, "w").close()
    time.sleep(60)
nni.report_final_result(params["x"])
"""
    manager = make_manager(tmp_path, code)
    trial = suggest(manager, 0)
    watch = TrialWatch(manager, trial)
    while not (tmp_path / "lost").exists():
        time.sleep(0.02)
    for pid in _processes_of(manager):
        os.kill(pid, signal.SIGKILL)
    while (ended := watch.poll()) is None:
        time.sleep(0.02)
    assert (ended.status, ended.attempt, ended.parameters) == (TrialStatus.SUCCEEDED, 2, trial.parameters)
    manager.report(ended)
    assert states_of(manager) == ["COMPLETE"]


def _processes_of(manager: ExperimentManager) -> list[int]:
    mark = f"NNI_SYS_DIR={manager.experiment.folder}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_trial_survives_the_death_of_whoever_started_it(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, "import time\ntime.sleep(1.5)\n" + TRIAL)
    trial = suggest(manager, 0)
    starter = (
        "import os, signal, sys; from pathlib import Path\n"
        "from trialflow.experiment.running import ExperimentManager; from trialflow.settings import Settings\n"
        f"manager = ExperimentManager({manager.id!r}, Settings(home=Path({str(tmp_path)!r})))\n"
        f"manager.training.submit(manager.job_request(manager.store.get_trial({manager.id!r}, {trial.id!r})))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", starter], check=False)
    assert done.returncode == -signal.SIGKILL
    ended = run_to_end(manager, trial)
    assert (ended.status, ended.attempt) == (TrialStatus.SUCCEEDED, 1)


def test_the_same_study_and_seed_give_the_same_suggestion_in_a_fresh_process(tmp_path: Path) -> None:
    manager = make_manager(tmp_path / "a", concurrency=1, trials=14)
    other = make_manager(tmp_path / "b", concurrency=1, trials=14)
    for index in range(13):
        trials = [suggest(each, index) for each in (manager, ExperimentManager(other.id, other.settings))]
        assert trials[0].parameters == trials[1].parameters
        for each, trial in zip((manager, other), trials, strict=True):
            run_to_end(each, trial)


def test_the_store_waits_for_another_process_that_holds_it(tmp_path: Path) -> None:
    manager = make_manager(tmp_path)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            ("import sqlite3, sys, time\n"
            f"c = sqlite3.connect({str(tmp_path / 'trialflow.db')!r}, isolation_level=None)\n"
            "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); time.sleep(6)\n"),
        ],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    began = time.monotonic()
    trial = suggest(manager, 0)
    assert time.monotonic() - began > 5
    assert trial.parameters is not None
    holder.wait(20)
    holder.stdout.close()


def test_a_stopped_run_leaves_no_place_taken_and_no_process(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, "import time\ntime.sleep(60)\n")
    manager.plan_batch(1, "run")
    manager.submit(suggest(manager, 0))
    suggest(manager, 1)
    assert manager.close_run(1, "run")
    assert _processes_of(manager) == []
    assert {trial.status for trial in manager.store.list_trials(manager.id)} == {TrialStatus.USER_CANCELED}
    assert manager.store.count_live(manager.id) == 0
    assert states_of(manager) == ["FAIL", "FAIL"]


def test_a_bad_trial_is_stopped_early_and_told_as_pruned(tmp_path: Path) -> None:
    code = """import time
import nni
nni.get_next_parameter()
good = nni.get_sequence_id() < 2
for _ in range(3):
    nni.report_intermediate_result(0.9 if good else 0.1)
time.sleep(0 if good else 60)
nni.report_final_result(0.9)
"""
    manager = make_manager(tmp_path, code, concurrency=1, assessor=AlgorithmSpec("Medianstop"))
    endings = [run_to_end(manager, suggest(manager, index)).status for index in range(3)]
    assert endings == [TrialStatus.SUCCEEDED, TrialStatus.SUCCEEDED, TrialStatus.EARLY_STOPPED]
    manager.settle()
    assert states_of(manager) == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert _processes_of(manager) == []
