"""The ledger on SQLite and on a real PostgreSQL: one claim at a time, whatever dies in between."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from trialflow.errors import NotFoundError
from trialflow.records import Metric, MetricType, Slot, Trial, TrialStatus
from trialflow.store import MetricQuery, Store
from trialflow.store.engine import get_engine
from trialflow.testing import StoreContract
from trialflow.testing.contracts import start_experiment

EXPERIMENT = "contract"

# Claims its own slots while room comes and goes, and prints the number of live trials that it saw while it held one.
CLAIMER = """
import sys, time
from pathlib import Path
from trialflow.records import Metric, MetricType, Slot, Trial, TrialStatus
from trialflow.store import MetricQuery, Store
from trialflow.store.engine import get_engine
url, batch, slots, go = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
store = Store(url)
print("ready", flush=True)
while not go.exists():
    time.sleep(0.01)
for index in range(slots):
    while not isinstance(trial := store.claim("contract", Slot(batch, index), "run"), Trial):
        time.sleep(0.02)
    print(store.count_live("contract"), flush=True)
    store.set_reported(trial)
"""

DIES_IN_CLAIM = """
import sys, time
from trialflow.records import Slot
from trialflow.store import Store, claims
insert = claims._insert
def insert_and_hang(*args, **named):
    insert(*args, **named)
    print("inserted", flush=True)
    time.sleep(60)
claims._insert = insert_and_hang
Store(sys.argv[1]).claim("contract", Slot(1, 0), "run")
"""

HOLDS_STUDY = """
import sys, time
from trialflow.store import MetricQuery, Store
from trialflow.store.engine import get_engine
with Store(sys.argv[1]).experiment_lock("contract"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""

HOLDS_DATABASE = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(6)  # SQLite gives up after 5 by itself.
connection.execute("ROLLBACK")
"""


@contextmanager
def process(code: str, *arguments: Any) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def read_line(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    return started.stdout.readline().strip()


@pytest.fixture
def store(url: str) -> Store:
    return Store(url)


class TestStore(StoreContract):
    """The contract, on both databases."""


def test_the_cap_holds_while_eight_processes_claim(store: Store, tmp_path: Path) -> None:
    processes, slots, cap = 8, 2, 3
    start_experiment(store, trial_concurrency=cap, max_trial_number=processes * slots)
    go = tmp_path / "go"
    claimers = [process(CLAIMER, store.url, batch, slots, go) for batch in range(1, processes + 1)]
    started = [claimer.__enter__() for claimer in claimers]
    try:
        assert {read_line(one) for one in started} == {"ready"}
        go.touch()
        outputs = [one.communicate(timeout=60)[0].split() for one in started]
    finally:
        for claimer in claimers:
            claimer.__exit__(None, None, None)
    live = [int(number) for output in outputs for number in output]
    assert len(live) == processes * slots
    assert max(live) <= cap
    assert [trial.number for trial in store.list_trials(EXPERIMENT)] == list(range(processes * slots))


def test_one_slot_gives_one_trial_to_processes_that_claim_it_at_once(store: Store, tmp_path: Path) -> None:
    start_experiment(store, trial_concurrency=9, max_trial_number=9)
    go = tmp_path / "go"
    with process(CLAIMER, store.url, 1, 1, go) as one, process(CLAIMER, store.url, 1, 1, go) as other:
        assert read_line(one) == read_line(other) == "ready"
        go.touch()
        assert one.wait(30) == other.wait(30) == 0
    assert len(store.list_trials(EXPERIMENT)) == 1


def test_two_that_follow_one_trial_note_each_metric_once(store: Store) -> None:
    start_experiment(store)
    trial = store.claim(EXPERIMENT, Slot(1, 0), "run")
    assert isinstance(trial, Trial)
    barrier = Barrier(2)

    def follow() -> None:
        for sequence in range(50):
            barrier.wait(30)
            store.add_metrics(trial, [Metric(MetricType.PERIODICAL, sequence, 0.5, 0.0)])

    with ThreadPoolExecutor(2) as executor:
        followers = [executor.submit(follow) for _ in range(2)]
        problems = [follower.exception() for follower in followers]
    assert problems == [None, None]
    assert [metric.sequence for metric in store.list_metrics(trial)] == list(range(50))


def test_a_claimer_that_is_killed_leaves_nothing_half_done(store: Store) -> None:
    start_experiment(store)
    with process(DIES_IN_CLAIM, store.url) as claimer:
        assert read_line(claimer) == "inserted"
        claimer.kill()
        claimer.wait()
        assert store.list_trials(EXPERIMENT) == []
        assert store.get_experiment(EXPERIMENT).started_at is None
        trial = store.claim(EXPERIMENT, Slot(1, 1), "run")
    assert isinstance(trial, Trial)
    assert trial.number == 0


def test_a_study_is_held_by_one_process_and_freed_by_its_death(store: Store) -> None:
    with process(HOLDS_STUDY, store.url, 60) as holder:
        assert read_line(holder) == "held"
        with process(HOLDS_STUDY, store.url, 0) as second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(1.5)
            holder.kill()
            assert second.wait(10) == 0


def test_the_locks_of_two_studies_do_not_meet(store: Store) -> None:
    with process(HOLDS_STUDY, store.url, 60) as holder:
        assert read_line(holder) == "held"
        with store.experiment_lock("another"):
            assert holder.poll() is None


def test_a_store_locked_by_another_process_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = Store(f"sqlite:///{path}")
    start_experiment(store)
    with process(HOLDS_DATABASE, path) as holder:
        assert read_line(holder) == "locked"
        start = time.monotonic()
        assert store.count_live(EXPERIMENT) == 0
        assert time.monotonic() - start < 4, "readers must not wait"
        trial = store.claim(EXPERIMENT, Slot(1, 0), "run")
        assert isinstance(trial, Trial)
        store.set_parameters(trial, {"x": 1}, {})
        assert time.monotonic() - start > 5
    assert store.get_trial(EXPERIMENT, trial.id).parameters == {"x": 1}


def test_a_store_can_be_opened_by_processes_at_once(url: str) -> None:
    code = "import sys; from trialflow.store import Store; Store(sys.argv[1])"
    with process(code, url) as one, process(code, url) as other:
        assert one.wait(30) == other.wait(30) == 0


def test_a_new_database_can_be_opened_twice_at_the_same_moment(tmp_path: Path) -> None:
    together = Barrier(2)

    def open_all() -> None:
        for number in range(200):
            together.wait(60)
            with get_engine(f"sqlite:///{tmp_path}/{number}.db").connect():
                pass

    with ThreadPoolExecutor(2) as threads:
        for opened in [threads.submit(open_all), threads.submit(open_all)]:
            opened.result(120)


def test_an_unknown_experiment_or_trial_is_named_in_the_error(store: Store) -> None:
    with pytest.raises(NotFoundError, match="nobody"):
        store.get_experiment("nobody")
    start_experiment(store)
    with pytest.raises(NotFoundError, match="none"):
        store.get_trial(EXPERIMENT, "none")
    with pytest.raises(NotFoundError, match="nobody"):
        store.claim("nobody", Slot(1, 0), "run")


def test_the_database_is_in_wal_mode_so_that_readers_never_wait(tmp_path: Path) -> None:
    Store(f"sqlite:///{tmp_path / 'store.db'}")
    connection = sqlite3.connect(tmp_path / "store.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.mark.parametrize("value", [0.3495076781002801, 1e-300, 7, "1", True, None, {"default": 0.1 + 0.2}, [1.5]])
def test_a_metric_is_shown_as_it_was_reported(store: Store, value: Any) -> None:
    start_experiment(store)
    trial = store.claim(EXPERIMENT, Slot(1, 0), "run")
    assert isinstance(trial, Trial)
    store.add_metrics(trial, [Metric(MetricType.FINAL, 0, value, 1.0)])

    (shown,), total = store.page_metrics(EXPERIMENT, MetricQuery(), 10, 0)

    assert (json.loads(shown.data), total) == (value, 1)
    assert store.list_finals(EXPERIMENT)[trial.id].value == value


def test_the_metrics_of_all_but_very_many_trials_can_be_asked_for(store: Store) -> None:
    start_experiment(store)
    trial = store.claim(EXPERIMENT, Slot(1, 0), "run")
    assert isinstance(trial, Trial)
    store.add_metrics(trial, [Metric(MetricType.PERIODICAL, 0, 0.5, 1.0)])
    others = [f"{number:05}" for number in range(70_000)]

    found = store.list_intermediate_metrics(EXPERIMENT, *TrialStatus, but=others)

    assert [metric.value for metric in found[trial.id]] == [0.5]
    assert store.list_intermediate_metrics(EXPERIMENT, *TrialStatus, but=[*others, trial.id]) == {}
