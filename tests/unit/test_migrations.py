"""A store that an older version has made, on SQLite and on a real PostgreSQL: everything reads as before."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import event

from trialflow.errors import StoreError
from trialflow.experiment.operating.actions import Actions
from trialflow.experiment.running import ExperimentContext, ExperimentSteps, TrialWatch
from trialflow.records import KnownPoint, MetricType, Slot, Trial, TrialStatus
from trialflow.settings import Settings
from trialflow.store import Store, migrations
from trialflow.store.engine import get_engine
from trialflow.store.tables import HEAD

from .lab import states_of

# Made by the last version without migrations: a local experiment and a kubeflow one, each with a trial that runs, and
# one with classes of the user's own.
DUMPS = Path(__file__).parent / "data"
OPENS = "import sys; from trialflow.store import Store; Store(sys.argv[1])"
# Hangs behind the first step of a migration.
HANGS = """
import sys, time
from alembic import command
upgrade = command.upgrade
def upgrade_and_hang(*arguments):
    upgrade(*arguments)
    print("migrated", flush=True)
    time.sleep(60)
command.upgrade = upgrade_and_hang
from trialflow.store import Store
Store(sys.argv[1])
"""


@pytest.fixture
def old(url: str, tmp_path: Path) -> str:
    """A database with the tables and rows of version 5, whose folders lie in the test's."""
    dialect = sa.make_url(url).get_backend_name()
    text = (DUMPS / f"schema_5.{dialect}.sql").read_text()
    text = text.replace("/FIXTURE", str(tmp_path)).replace("elsewhere", socket.gethostname())
    if dialect == "sqlite":
        connection = sqlite3.connect(tmp_path / "store.db")
        connection.executescript(text)
        connection.close()
    else:
        execute(url, "\n".join(line for line in text.splitlines() if not line.startswith("\\")))
        execute(url, "SELECT 1")
    return url


def execute(url: str, statement: str) -> Any:
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        found = connection.exec_driver_sql(statement)
        return found.scalar() if found.returns_rows else None


def live_trial(store: Store, experiment_id: str) -> Trial:
    (trial,) = store.list_unreported(experiment_id)
    return trial


def test_everything_reads_as_before(old: str, tmp_path: Path) -> None:
    store = Store(old)
    digits, own, tf = (store.get_experiment(name) for name in ("aaaaaaaa", "bbbbbbbb", "cccccccc"))

    assert (digits.spec.name, digits.spec.tuner.name, digits.trial_concurrency) == ("digits", "TPE", 6)
    assert digits.spec.assessor is not None
    assert digits.spec.assessor.class_args == {"optimize_mode": "minimize", "start_step": 3}
    assert digits.spec.warnings == ("logDir has no effect",)
    assert own.spec.tuner.user_class is not None
    assert (own.spec.tuner.user_class.module, own.spec.tuner.class_args) == ("my_tuner", {"last": 3})
    assert own.spec.user_classes.keys() == {"tuner", "assessor"}
    assert tf.spec.training["kubeflowConfig"]["operator"] == "tf-operator"
    trials = store.list_trials("aaaaaaaa")
    assert [(trial.number, trial.status.value, trial.value) for trial in trials] == [
        (0, "SUCCEEDED", 0.125), (1, "SUCCEEDED", 0.375), (2, "FAILED", None), (3, "RUNNING", None),
    ]  # fmt: skip
    assert [trial.parameters for trial in trials[:2]] == [{"lr": 0.01, "net": "a"}, {"lr": 0.02, "net": "b"}]
    assert trials[1].note == {"round": 1}
    metrics = store.list_metrics(trials[1])
    assert [metric.value for metric in metrics if metric.type is MetricType.PERIODICAL] == [0.5, 0.25]
    assert [metric.value for metric in metrics if metric.type is MetricType.FINAL] == [{"default": 0.25, "loss": "NaN"}]
    assert [change.what for change in store.list_changes("aaaaaaaa")] == ["concurrency", "searchspace", "add", "import"]
    assert store.list_known_points("aaaaaaaa") == [KnownPoint({"lr": 0.02, "net": "b"}, 0.75)]
    assert store.read_claim_state("aaaaaaaa").has_waiting_point
    assert live_trial(store, "cccccccc").job["name"].endswith(f"-trial-{live_trial(store, 'cccccccc').id}-1")


def test_a_trial_that_runs_meanwhile_goes_on_to_its_end(old: str, tmp_path: Path) -> None:
    store = Store(old)
    steps = ExperimentSteps(ExperimentContext("aaaaaaaa", Settings(home=tmp_path, store=old)))
    trial = live_trial(store, "aaaaaaaa")
    folder = tmp_path / "experiments" / "aaaaaaaa" / "trials" / trial.id / "1"
    (folder / ".nni").mkdir(parents=True)
    value = '{"parameter_id": 3, "trial_job_id": "x", "type": "FINAL", "sequence": 0, "value": "0.0625"}'
    (folder / ".nni" / "metrics").write_text(f"ME{len(value) + 1:06}{value}\n")
    (folder / "started").touch()
    (folder / "exit").write_text("0")

    ended = TrialWatch(steps.context, trial).poll()

    assert ended is not None
    assert (ended.status, ended.value) == (TrialStatus.SUCCEEDED, 0.0625)
    steps.trials.report(ended)
    assert states_of(steps) == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    execute(old, f"UPDATE trialflow_experiments SET started_at = {time.time()}")
    hand_made = store.claim("aaaaaaaa", Slot(1, 4), "manual__1")
    assert isinstance(hand_made, Trial)
    assert hand_made.parameters == {"lr": 0.05, "net": "a"}
    Actions("aaaaaaaa", "ann", steps.context.settings).stop()


def test_migrated_tables_are_those_of_a_new_store(old: str, tmp_path: Path) -> None:
    new = f"sqlite:///{tmp_path / 'new.db'}" if old.startswith("sqlite") else old.replace("/test_", "/test_new_")
    if not old.startswith("sqlite"):
        execute(old, f"CREATE DATABASE {sa.make_url(new).database}")
    shapes = []
    for url in (old, new):
        Store(url)
        inspector = sa.inspect(get_engine(url))
        shapes.append({
            (name, column["name"], str(column["type"]), column["nullable"])
            for name in inspector.get_table_names() if name.startswith("trialflow")
            for column in inspector.get_columns(name)
        })  # fmt: skip
        assert execute(url, "SELECT version_num FROM trialflow_alembic") == HEAD
        assert execute(url, "SELECT version FROM trialflow_schema") == int(HEAD)
    assert shapes[0] == shapes[1]


def test_the_newest_migration_is_the_one_that_the_tables_name(tmp_path: Path) -> None:
    with get_engine(f"sqlite:///{tmp_path / 'any.db'}").connect() as connection:
        scripts = ScriptDirectory.from_config(migrations._config(connection))
    assert scripts.get_heads() == [HEAD]


def test_of_two_processes_that_migrate_at_once_one_waits(old: str) -> None:
    both = [subprocess.Popen([sys.executable, "-c", OPENS, old]) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    assert len(Store(old).list_experiments()) == 3


def test_a_process_that_is_killed_in_a_migration_leaves_the_store_as_it_was(old: str) -> None:
    with subprocess.Popen([sys.executable, "-c", HANGS, old], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "migrated\n"
        killed.kill()
    assert execute(old, "SELECT version FROM trialflow_schema") == 5
    assert execute(old, "SELECT count(sampler_number) FROM trialflow_trials") == 7
    assert len(Store(old).list_experiments()) == 3


def test_a_store_that_is_up_to_date_costs_a_look(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(url)
    monkeypatch.setattr(command, "upgrade", lambda *_: 1 / 0)
    queries: list[str] = []
    event.listen(get_engine(url), "before_cursor_execute", lambda *given: queries.append(given[2]))
    Store(url)
    assert queries == ["SELECT trialflow_alembic.version_num \nFROM trialflow_alembic"]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE trialflow_alembic SET version_num = '9999'", "this Trialflow knows those up to"),
        ("UPDATE trialflow_alembic SET version_num = '0003'", "migrations begin at 0005"),
    ],
)
def test_a_store_from_which_no_way_leads_here_is_refused(url: str, statement: str, message: str) -> None:
    Store(url)
    execute(url, statement)
    with pytest.raises(StoreError, match=message):
        Store(url)


def test_a_store_from_before_all_that_is_kept_up_is_refused(old: str) -> None:
    execute(old, "UPDATE trialflow_schema SET version = 4")
    with pytest.raises(StoreError, match="migrations begin at 0005; point TRIALFLOW_STORE at a new database"):
        Store(old)


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM trialflow_alembic", "DROP TABLE trialflow_alembic; DROP TABLE trialflow_schema"],
)
def test_tables_without_a_version_are_refused(url: str, statement: str) -> None:
    Store(url)
    for part in statement.split("; "):
        execute(url, part)
    with pytest.raises(StoreError, match="no word of their version"):
        Store(url)


def test_a_schema_table_without_a_version_is_refused(old: str) -> None:
    execute(old, "DELETE FROM trialflow_schema")
    with pytest.raises(StoreError, match="no word of their version"):
        Store(old)


def test_a_file_that_is_no_database_is_refused_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    file.write_text("id,value\n" * 500)
    with pytest.raises(StoreError, match=r"store\.db is no SQLite database; point TRIALFLOW_STORE"):
        Store(f"sqlite:///{file}")
    assert file.read_text().startswith("id,value")


def test_another_program_s_tables_are_left_alone(url: str) -> None:
    execute(url, "CREATE TABLE alembic_version (version_num VARCHAR(32))")
    execute(url, "INSERT INTO alembic_version VALUES ('theirs')")
    Store(url)
    assert execute(url, "SELECT version_num FROM alembic_version") == "theirs"
