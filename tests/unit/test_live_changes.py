"""Random changes, kills, stops and resumes while trials run: what the ledger promises always holds."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from trialflow.errors import ConflictError
from trialflow.experiment.operating.actions import Actions
from trialflow.experiment.running import ExperimentSteps, TrialWatch
from trialflow.records import AlgorithmSpec, Slot, Trial, TrialStatus
from trialflow.store import Adjustable, ClaimRefusal
from trialflow.testing import make_spec

from .kubeflow_lab import make_role, make_running_lab, make_training
from .lab import again, make_steps, processes_of, states_of

# Of each round, that ends with a stop; between two of them the experiment is resumed.
ACTS = 30
TRIALS = 4
ROUNDS = 2
PATIENCE_SECONDS = 90.0
CODE = "import time, nni\nx = nni.get_next_parameter()['x']\ntime.sleep(x / 2)\nnni.report_final_result(x)\n"


class Monkey:
    """Acts on an experiment at random; knows the largest cap that was in force, and what it added by hand."""

    def __init__(self, steps: ExperimentSteps, seed: int) -> None:
        self.steps = steps
        self.random = random.Random(seed)
        self.most = steps.context.experiment.trial_concurrency
        self.added: list[float] = []

    def act(self) -> None:
        actions = Actions(self.steps.context.id, "monkey", self.steps.context.settings)
        kind = self.random.choice(["concurrency"] * 3 + ["trialnum", "duration", "space", "kill", "add", "import"])
        if kind == "concurrency":
            value = self.random.randint(1, 5)
            self.most = max(self.most, value)
            actions.change(Adjustable.CONCURRENCY, value)
        elif kind == "trialnum":
            actions.change(Adjustable.TRIAL_NUMBER, self.random.randint(ROUNDS * TRIALS, 60))
        elif kind == "duration":
            actions.change(Adjustable.DURATION, self.random.randint(600, 6000))
        elif kind == "space":
            low = self.random.random() / 2
            actions.change(Adjustable.SEARCH_SPACE, {"x": {"_type": "uniform", "_value": [low, low + 0.25]}})
        elif kind == "add":
            self._add(actions)
        elif kind == "import":
            actions.import_data([{"parameter": {"x": self.random.random()}, "value": self.random.random()}])
        else:
            self._kill(actions)

    def _add(self, actions: Actions) -> None:
        low, high = actions.experiment.spec.search_space["x"]["_value"]
        x = self.random.uniform(low, high)
        with suppress(ConflictError):  # There may be no trials left.
            actions.add({"x": x})
            self.added.append(x)

    def _kill(self, actions: Actions) -> None:
        live = self.steps.context.store.list_unreported(self.steps.context.id)
        if live:
            with suppress(ConflictError):  # It may have ended by itself in the meantime.
                actions.kill(self.random.choice(live).id)


def live_slots(steps: ExperimentSteps, batch: int, counter: Iterator[int], over: threading.Event) -> None:
    """Carry one slot after the other through its steps, each with steps of its own."""
    asker = again(steps)
    for index in counter:
        while (answer := asker.trials.suggest(Slot(batch, index), f"run-{batch}")) in (
            ClaimRefusal.NO_ROOM,
            ClaimRefusal.GIVE_WAY,
            ClaimRefusal.NO_TRIALS_LEFT,
        ):
            if over.is_set():
                return
            time.sleep(0.02)
        if isinstance(answer, ClaimRefusal):
            return
        follower = again(steps)
        watch = TrialWatch(follower.context, answer)
        while watch.poll() is None:
            time.sleep(0.02)
        follower.trials.report(watch.trial)


def check_at_rest(steps: ExperimentSteps, trials: list[Trial]) -> None:
    """Nothing was lost, done twice or left behind."""
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert len({trial.id for trial in trials}) == len(trials)
    assert all(trial.status.is_final and trial.ended_at and trial.reported_at for trial in trials)
    assert all((trial.value is not None) == (trial.status is TrialStatus.SUCCEEDED) for trial in trials)
    assert steps.context.store.count_live(steps.context.id) == 0
    succeeded = sum(trial.status is TrialStatus.SUCCEEDED for trial in trials)
    states = states_of(steps)
    known = len(steps.context.store.list_known_points(steps.context.id))
    assert (states.count("COMPLETE"), states.count("RUNNING")) == (succeeded + known, 0)
    changes = steps.context.store.list_changes(steps.context.id)
    assert [change.revision for change in changes] == list(range(1, len(changes) + 1))


def harass(steps: ExperimentSteps, seed: int) -> list[Trial]:
    """Let trials run and be changed, killed, stopped, and resumed to the same again; gives the ledger."""
    monkey, actions = Monkey(steps, seed), Actions(steps.context.id, "monkey", steps.context.settings)
    steps.plan_batch(1, "run-1")
    for batch in range(1, ROUNDS + 1):
        if batch > 1:
            actions.change(Adjustable.TRIAL_NUMBER, 99)  # It may have had all its trials.
            assert actions.resume("run-{}".format, is_alive=lambda _: False) == batch
        harass_a_batch(steps, batch, monkey)
        actions.stop()
        steps.close_run(batch, f"run-{batch}")
    trials = steps.context.store.list_trials(steps.context.id)
    tried = [(trial.parameters or {}).get("x") for trial in trials]
    assert all(tried.count(x) <= 1 for x in monkey.added)
    assert any(x in tried for x in monkey.added) or not monkey.added
    return trials


def harass_a_batch(steps: ExperimentSteps, batch: int, monkey: Monkey) -> None:
    """Act at random while a batch runs, then let its slots end."""
    over, before = threading.Event(), len(steps.context.store.list_trials(steps.context.id))
    numbers = iter(_Locked(iter(range(10_000))))
    with ThreadPoolExecutor(6) as pool:
        workers = [pool.submit(live_slots, steps, batch, numbers, over) for _ in range(6)]
        deadline, acts = time.monotonic() + PATIENCE_SECONDS, 0
        try:
            while acts < ACTS or len(steps.context.store.list_trials(steps.context.id)) < before + TRIALS:
                assert time.monotonic() < deadline
                monkey.act()
                acts += 1
                assert steps.context.store.count_live(steps.context.id) <= monkey.most
                time.sleep(monkey.random.random() / 10)
        finally:
            Actions(steps.context.id, "monkey", steps.context.settings).stop()
            over.set()
        for worker in workers:
            worker.result(timeout=60)


class _Locked:
    """Lets several threads draw from one iterator."""

    def __init__(self, inner: Iterator[int]) -> None:
        self._inner, self._lock = inner, threading.Lock()

    def __iter__(self) -> _Locked:
        return self

    def __next__(self) -> int:
        with self._lock:
            return next(self._inner)


@pytest.mark.parametrize("seed", range(3))
def test_the_ledger_holds_on_the_local_service(tmp_path: Path, seed: int) -> None:
    steps = make_steps(tmp_path, CODE, trial_concurrency=3, max_trial_number=40)
    trials = harass(steps, seed)
    check_at_rest(steps, trials)
    assert processes_of(steps) == []


def test_the_ledger_holds_on_the_fake_cluster(tmp_path: Path) -> None:
    """Suggestions do not submit there, so that changes come between any two steps."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "trial.py").write_text(CODE)
    with make_running_lab(tmp_path) as lab:
        spec = make_spec(
            platform="kubeflow",
            training=make_training(lab.storage, worker=make_role("python3 trial.py")),
            code_directory=str(folder),
            code_root=str(folder),
            tuner=AlgorithmSpec("TPE"),
            trial_concurrency=3,
            max_trial_number=40,
        )
        steps = ExperimentSteps.create("expaaaaa", spec, lab.settings)
        steps.stage_code()
        steps.start()
        trials = harass(steps, 7)
        check_at_rest(steps, trials)
        assert lab.cluster.all("tfjobs") == []
