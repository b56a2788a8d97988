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

from trialflow.experiment.running import ExperimentSteps, TrialWatch, trials
from trialflow.records import AlgorithmSpec, Slot, Trial, TrialStatus
from trialflow.store import ClaimRefusal, Store
from trialflow.tuners import NoSuggestion

from .lab import RUN, again, follow, make_steps, processes_of, states_of, suggest, waiting_for

SPACE = {"x": {"_type": "uniform", "_value": [0, 1]}, "y": {"_type": "choice", "_value": [1, 2]}}
TRIAL = """import nni
params = nni.get_next_parameter()
nni.report_intermediate_result(params["x"])
nni.report_final_result(params["x"])
"""


def make_experiment(home: Path, code: str = TRIAL, **changes: Any) -> ExperimentSteps:
    return make_steps(home, code, **{"search_space": SPACE, "max_trial_number": 5, **changes})


def _claim_and_hold(url: str, first: int, seen: multiprocessing.Queue[int]) -> None:
    store = Store(url)
    for index in range(first, first + 6):
        answer = store.claim("expaaaaa", Slot(1, index), RUN)
        if isinstance(answer, Trial):
            seen.put(store.count_live("expaaaaa"))


def test_many_processes_never_claim_more_than_the_cap(tmp_path: Path) -> None:
    steps = make_experiment(tmp_path, trial_concurrency=3, max_trial_number=50)
    context = multiprocessing.get_context("spawn")
    seen: multiprocessing.Queue[int] = context.Queue()
    workers = [
        context.Process(target=_claim_and_hold, args=(steps.context.store.url, first, seen))
        for first in range(0, 24, 6)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert steps.context.store.count_live(steps.context.id) == 3
    assert sorted(trial.number for trial in steps.context.store.list_trials(steps.context.id)) == [0, 1, 2]
    assert max(seen.get(timeout=5) for _ in range(3)) <= 3


def test_a_slot_is_claimed_once_and_gives_the_same_trial_again(tmp_path: Path) -> None:
    gate = tmp_path / "open"
    steps = make_experiment(tmp_path, waiting_for(gate, TRIAL))
    first, second = suggest(steps, 0), suggest(steps, 0)
    assert (second.id, second.parameters, second.job) == (first.id, first.parameters, first.job)
    assert len(steps.context.store.list_trials(steps.context.id)) == 1
    assert states_of(steps) == ["RUNNING"]
    gate.touch()


def test_no_room_then_no_trials_left(tmp_path: Path) -> None:
    gate = tmp_path / "open"
    steps = make_experiment(tmp_path, waiting_for(gate, TRIAL), trial_concurrency=1, max_trial_number=2)
    first = suggest(steps, 0)
    assert steps.trials.suggest(Slot(1, 1), RUN) is ClaimRefusal.NO_ROOM
    gate.touch()
    follow(steps, first)
    second = suggest(steps, 1)
    assert steps.context.store.get_trial(steps.context.id, first.id).reported_at is not None
    follow(steps, second)
    assert steps.trials.suggest(Slot(1, 2), RUN) is ClaimRefusal.NO_TRIALS_LEFT


def test_a_trial_that_is_reported_twice_is_told_once(tmp_path: Path) -> None:
    steps = make_experiment(tmp_path)
    ended = follow(steps, suggest(steps, 0))
    once = steps.trials.report(ended)
    assert steps.trials.report(ended) == once
    assert states_of(steps) == ["COMPLETE"]


def test_a_death_between_telling_and_noting_it_tells_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = make_experiment(tmp_path)
    ended = follow(steps, suggest(steps, 0))

    def die(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "set_reported", die)
        with pytest.raises(KeyboardInterrupt):
            steps.trials.report(ended)
    assert steps.context.store.count_live(steps.context.id) == 1
    steps.trials.report(ended)
    assert (states_of(steps), steps.context.store.count_live(steps.context.id)) == (["COMPLETE"], 0)


def test_a_death_in_the_middle_of_an_ask_is_taken_up_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = make_experiment(tmp_path)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "set_parameters", die)
        with pytest.raises(KeyboardInterrupt):
            suggest(steps, 0)
    trial = suggest(steps, 0)
    assert trial.parameters is not None
    assert states_of(steps) == ["RUNNING"]


@pytest.mark.parametrize("verb", ["get_trial", "set_job"])
def test_a_death_behind_the_ask_leaves_one_trial_in_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    steps = make_experiment(tmp_path)
    real, real_ask, asked_times = getattr(Store, verb), trials.ask, []
    monkeypatch.setattr(trials, "ask", lambda *given: asked_times.append(1) or real_ask(*given))

    def die(store: Store, *given: Any) -> Any:
        made = store.list_trials(steps.context.id)
        if made and made[0].parameters is not None:
            raise KeyboardInterrupt
        return real(store, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Store, verb, die)
        with pytest.raises(KeyboardInterrupt):
            suggest(steps, 0)
    (asked,) = steps.context.store.list_trials(steps.context.id)
    trial = suggest(steps, 0)
    assert (trial.parameters, len(asked_times)) == (asked.parameters, 1)
    steps.trials.report(follow(steps, trial))
    assert states_of(steps) == ["COMPLETE"]


def test_a_result_that_comes_while_the_tuner_is_asked_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = make_experiment(tmp_path)
    ended = follow(steps, suggest(steps))

    def wait_for_a_result(*_: object) -> NoSuggestion:
        again(steps).trials.report(ended)
        return NoSuggestion.WAIT

    monkeypatch.setattr(trials.TrialSteps, "report_ended", lambda _: None)
    with monkeypatch.context() as patch:
        patch.setattr(trials, "ask", wait_for_a_result)
        assert steps.trials.suggest(Slot(1, 1), RUN) is ClaimRefusal.NO_SUGGESTION
    assert steps.trials.has_news(steps.trials.asked_in_vain_after)
    assert suggest(steps, 1).number == 1


def test_a_submission_that_was_not_noted_starts_nothing_a_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    code = f"open({str(starts)!r}, 'a').write('x')\n{TRIAL}"
    steps = make_experiment(tmp_path, code)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "set_job", die)
        with pytest.raises(KeyboardInterrupt):
            suggest(steps, 0)
    trial = suggest(steps, 0)
    assert trial.job is not None
    ended = follow(steps, trial)
    # A task that was sent off before the end, and came late.
    steps.context.training.submit(steps.context.job_request(trial))
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
    steps = make_experiment(tmp_path, code)
    trial = suggest(steps, 0)
    watch = TrialWatch(steps.context, trial)
    while not (tmp_path / "lost").exists():
        time.sleep(0.02)
    for pid in processes_of(steps):
        os.kill(pid, signal.SIGKILL)
    while (ended := watch.poll()) is None:
        time.sleep(0.02)
    assert (ended.status, ended.attempt, ended.parameters) == (TrialStatus.SUCCEEDED, 2, trial.parameters)
    steps.trials.report(ended)
    assert states_of(steps) == ["COMPLETE"]


def test_a_trial_survives_the_death_of_whoever_started_it(tmp_path: Path) -> None:
    steps = make_experiment(tmp_path, "import time\ntime.sleep(1.5)\n" + TRIAL)
    trial = suggest(steps, 0)
    starter = (
        "import os, signal, sys; from pathlib import Path\n"
        "from trialflow.experiment.running import ExperimentContext; from trialflow.settings import Settings\n"
        f"context = ExperimentContext({steps.context.id!r}, Settings(home=Path({str(tmp_path)!r})))\n"
        f"trial = context.store.get_trial(context.id, {trial.id!r})\n"
        "context.training.submit(context.job_request(trial))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", starter], check=False)
    assert done.returncode == -signal.SIGKILL
    ended = follow(steps, trial)
    assert (ended.status, ended.attempt) == (TrialStatus.SUCCEEDED, 1)


def test_the_same_study_and_seed_give_the_same_suggestion_in_a_fresh_process(tmp_path: Path) -> None:
    steps = make_experiment(tmp_path / "a", trial_concurrency=1, max_trial_number=14)
    other = make_experiment(tmp_path / "b", trial_concurrency=1, max_trial_number=14)
    for index in range(13):
        trials = [suggest(each, index) for each in (steps, again(other))]
        assert trials[0].parameters == trials[1].parameters
        for each, trial in zip((steps, other), trials, strict=True):
            follow(each, trial)


def test_the_store_waits_for_another_process_that_holds_it(tmp_path: Path) -> None:
    steps = make_experiment(tmp_path)
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
    trial = suggest(steps, 0)
    assert time.monotonic() - began > 5
    assert trial.parameters is not None
    holder.wait(20)
    holder.stdout.close()


def test_a_stopped_run_leaves_no_place_taken_and_no_process(tmp_path: Path) -> None:
    steps = make_experiment(tmp_path, "import time\ntime.sleep(60)\n")
    steps.plan_batch(1, RUN)
    steps.context.submit(suggest(steps, 0))
    suggest(steps, 1)
    assert steps.close_run(1, RUN)
    assert processes_of(steps) == []
    assert {trial.status for trial in steps.context.store.list_trials(steps.context.id)} == {TrialStatus.USER_CANCELED}
    assert steps.context.store.count_live(steps.context.id) == 0
    assert states_of(steps) == ["FAIL", "FAIL"]


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
    steps = make_experiment(tmp_path, code, trial_concurrency=1, assessor=AlgorithmSpec("Medianstop"))
    endings = [follow(steps, suggest(steps, index)).status for index in range(3)]
    assert endings == [TrialStatus.SUCCEEDED, TrialStatus.SUCCEEDED, TrialStatus.EARLY_STOPPED]
    steps.trials.report_ended()
    assert states_of(steps) == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert processes_of(steps) == []
