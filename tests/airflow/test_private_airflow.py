"""The private Airflow, its processes and its environment, without starting it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import MagicMock

import psutil
import pytest
from rich.console import Console

from private_airflow import lifecycle, processes
from private_airflow.demo import Demo
from private_airflow.installation import Installation
from private_airflow.keeper import Keeper, Kept, bound
from private_airflow.lifecycle import find_keeper, list_components, start, stop
from private_airflow.reporting import Reporter
from trialflow.experiment.operating.actions import Actions
from trialflow.experiment.running import ExperimentSteps
from trialflow.settings import Settings
from trialflow.testing import make_spec

from .conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ID = "expaaaaa"
COMMAND = f"{sys.executable} -m private_airflow"


def start_sleep(**environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "20"], env={**os.environ, **environment}, start_new_session=True)


def test_ending_it_spares_the_programs_of_a_shell_that_has_its_variables(tmp_path: Path) -> None:
    script = f'eval "$({COMMAND} env)"; sleep 20 & {COMMAND} down > /dev/null; echo "down: $?"; kill $! && echo spared'
    environment = {**os.environ, "TRIALFLOW_PRIVATE_HOME": str(tmp_path)}
    shell = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert shell.stdout == "down: 0\nspared\n", shell.stderr


@pytest.mark.parametrize("left", ["task", "trial", "host"])
def test_ending_it_ends_what_has_left_its_process_group(tmp_path: Path, left: str) -> None:
    installation = Installation.open(tmp_path)
    environments = {
        "task": installation.environment(),
        "trial": {"NNI_SYS_DIR": f"{tmp_path}/experiments/expaaaaa/trials/traaa/1"},
        "host": {"TRIALFLOW_HOST": f"{tmp_path}/experiments/expaaaaa/algorithm"},
    }
    with start_sleep(**environments[left]) as process:
        stop(installation)
        assert process.wait(10) == -signal.SIGKILL


def test_it_has_nothing_of_another_airflow_that_the_shell_is_set_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Installation.open(tmp_path, {"AIRFLOW__CORE__PARALLELISM": "3"})
    expected = {**own.settings(), "AIRFLOW__CORE__PARALLELISM": "3", "TRIALFLOW_TRIAL_SDK": "own"}
    foreign = ("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", "AIRFLOW__SECRETS__BACKEND", "AIRFLOW_CONN_X")
    for name in [*own.settings(), *foreign]:
        monkeypatch.setenv(name, "of another one")
    monkeypatch.setenv("TRIALFLOW_TRIAL_SDK", "own")

    environment = own.environment()

    assert {name: value for name, value in environment.items() if name in expected} == expected
    assert "of another one" not in environment.values()


def make_experiment(installation: Installation) -> ExperimentSteps:
    """The experiment of the demo, without Airflow."""
    settings = Settings(home=installation.home, store=installation.store_url)
    return ExperimentSteps.create(ID, make_spec(), settings)


def test_the_demo_names_the_files_that_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    installation = Installation.open(tmp_path)
    steps = make_experiment(installation)
    steps.conclude()
    folder = Path(steps.context.experiment.folder)
    assert not (folder / "history.png").exists()

    assert Demo(Console(width=200), installation).show_results(ID) == 1

    named = re.findall(rf"^{folder}/(.*)$", capsys.readouterr().out, re.MULTILINE)
    assert named == ["result.json", "trials.csv"]


def test_a_demo_that_is_interrupted_twice_says_what_it_did_not_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = Demo(Console(), Installation.open(tmp_path))
    assert demo.stop() == "No experiment was started."

    monkeypatch.setattr(Demo, "_stop_experiment", MagicMock(side_effect=KeyboardInterrupt(signal.SIGINT)))
    assert demo.stop() == "The experiment may go on with the next make up."
    demo.experiment_id = ID
    assert demo.stop() == f"The experiment {ID} goes on with the next make up."
    context = make_experiment(demo.installation).context
    assert demo.stop() == f"Experiment {ID} was not stopped, and goes on with the next make up: nnictl stop {ID}"
    Actions(context.id, "ann", context.settings).stop()
    assert demo.stop() == (
        f"Experiment {ID} is STOPPED with 0 of 0 trials done; the next make up clears away what is left of it."
    )


# ── what a killed keeper leaves ──────────────────────────────────────────────────────────────────────────────────


def test_a_start_ends_what_a_killed_keeper_left_and_spares_experiments_and_other_airflows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = Installation.open(tmp_path / "own"), Installation.open(tmp_path / "own2")
    monkeypatch.setattr(lifecycle, "_make_database", MagicMock(side_effect=SystemExit("far enough")))
    said: list[str] = []
    trial = {"NNI_SYS_DIR": f"{own.home}/experiments/{ID}/trials/traaa/1"}
    host = {"TRIALFLOW_HOST": f"{own.home}/experiments/{ID}/algorithm"}
    with (
        start_sleep(**own.environment()) as left,
        start_sleep(**other.environment()) as foreign,
        start_sleep(**trial) as running,
        start_sleep(**own.environment(), **host) as hosting,
    ):
        with pytest.raises(SystemExit, match="far enough"):
            start(own, Reporter(said.append))
        assert left.wait(10) == -signal.SIGKILL
        assert [process.poll() for process in (foreign, running, hosting)] == [None] * 3
        for process in (foreign, running, hosting):
            process.kill()
    assert "ended 1 processes of this Airflow that had lost their keeper" in said[1]


def test_a_port_that_another_program_has_is_replaced_and_the_folder_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = Installation.open(tmp_path)
    make_experiment(installation)
    port, task_port, keys = installation.port, installation.task_port, installation.secrets
    monkeypatch.setattr(lifecycle, "_STOP_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(lifecycle, "_make_database", MagicMock(side_effect=SystemExit("far enough")))
    said: list[str] = []
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", port))
        foreign.listen()
        with pytest.raises(SystemExit, match="far enough"):
            start(installation, Reporter(said.append))

    assert installation.port != port
    assert (installation.task_port, installation.secrets) == (task_port, keys)
    assert f"another program has port {port}; from now on this Airflow is at {installation.url}" in said[-1]
    assert Demo(Console(), installation).look(ID)[0].id == ID


def test_a_program_that_only_looks_like_the_keeper_is_not_taken_for_it(tmp_path: Path) -> None:
    installation = Installation.open(tmp_path)
    command = ["sh", "-c", "sleep 300; true", "keep"]
    with (
        subprocess.Popen(command, start_new_session=True) as without_mark,
        subprocess.Popen(command, env=installation.environment()) as not_a_leader,
        subprocess.Popen(command, env=installation.environment(), start_new_session=True) as keeper,
    ):
        time.sleep(0.2)
        found = find_keeper(installation)
        for process in (without_mark, not_a_leader, keeper):
            for child in psutil.Process(process.pid).children():
                child.kill()
            process.kill()
    assert found is not None
    assert found.pid == keeper.pid


def test_nothing_is_up_where_nothing_runs(tmp_path: Path) -> None:
    installation = Installation.open(tmp_path)
    assert [component.is_up for component in list_components(installation)] == [False] * 5
    assert {component.name for component in list_components(installation)} == set(installation.components)

    environment = {**os.environ, "TRIALFLOW_PRIVATE_HOME": str(tmp_path)}
    status = subprocess.run([*COMMAND.split(), "status"], env=environment, capture_output=True, text=True, check=False)
    assert (status.returncode, status.stdout) == (
        1, f"No private Airflow of {tmp_path} runs; to start one: make up\n"
    )  # fmt: skip


# ── the keeper ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_component_that_fails_at_its_start_is_tried_again_later_and_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "end_orphans_of_group", MagicMock())
    installation = Installation.open(tmp_path)
    script = f"echo >> {tmp_path}/starts; echo 'database is locked'; exit 3"
    kept = Kept("scheduler", ["sh", "-c", script], installation.log("scheduler"))
    keeper, pauses = Keeper(installation, [kept]), []
    for _ in range(7):
        keeper.look()
        assert kept.process is not None
        kept.process.wait()
        keeper.look()
        assert kept.process is None
        pauses.append(round(kept.due - time.monotonic()))
        keeper.look()
        assert kept.process is None, "not before it is due"
        kept.due = 0.0

    assert (tmp_path / "starts").read_text().count("\n") == 7
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    said = capsys.readouterr().out.splitlines()
    log = installation.log("scheduler")
    assert said[1] == (
        f"scheduler ended with exit code 3 after 0 s: database is locked; it starts again in 2 s; see {log}"
    )


def test_a_component_that_was_killed_after_a_while_starts_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "end_orphans_of_group", MagicMock())
    installation = Installation.open(tmp_path)
    kept = Kept("scheduler", ["sleep", "300"], installation.log("scheduler"))
    keeper = Keeper(installation, [kept])
    keeper.look()
    first = kept.process
    assert first is not None
    kept.started -= 60
    first.kill()
    first.wait()
    keeper.look()
    assert kept.process not in (None, first)
    keeper.end()
    assert kept.process is not None
    assert kept.process.poll() == -signal.SIGTERM


def test_a_log_is_bounded_while_its_component_writes_on(tmp_path: Path) -> None:
    log = tmp_path / "scheduler.log"
    with log.open("ab") as file:
        for letter in (b"a", b"b", b"c"):
            file.write(letter * 60)
            file.flush()
            bound(log, max_bytes=100)
    assert log.read_bytes() == b"c" * 60
    assert log.with_name("scheduler.log.1").read_bytes() == b"a" * 60 + b"b" * 60


# ── what people read meanwhile ───────────────────────────────────────────────────────────────────────────────────


def test_who_waits_long_is_told_for_what_and_where_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    report = Reporter(said.append, 100.0, 100.0)
    report.waits_for("scheduler", tmp_path / "scheduler.log")
    for now[0] in (110.0, 116.0, 120.0, 131.5):
        report.is_late()
    assert said == [
        f"  16.0 s  still waiting for scheduler; see {tmp_path}/scheduler.log",
        f"  31.5 s  still waiting for scheduler; see {tmp_path}/scheduler.log",
    ]


# ── from start to end, with a program in Airflow's place ─────────────────────────────────────────────────────────

FAKE = """
import http.server, json, os, pathlib, sys, time
home, command = pathlib.Path(os.environ["TRIALFLOW_HOME"]), sys.argv[1]
with (home / "starts").open("a") as file:
    file.write(command + "\\n")
if command == "db":
    sys.exit(0)
if (home / command).exists():  # Fails once.
    (home / command).unlink()
    sys.exit("sqlite3.OperationalError: database is locked")
class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({part: {"status": "healthy"} for part in ("scheduler", "dag_processor", "triggerer")})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())
if command == "api-server":
    port = int(sys.argv[-1] if "--port" in sys.argv else os.environ["AIRFLOW__API__PORT"])
    http.server.HTTPServer(("127.0.0.1", port), Healthy).serve_forever()
time.sleep(60)
"""


@pytest.fixture
def faked(tmp_path: Path) -> Iterator[Installation]:
    """An installation whose components start in a moment; afterwards nothing of it is left."""
    package = tmp_path / "fake" / "airflow"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(FAKE)
    installation = Installation.open(tmp_path / "home", {"PYTHONPATH": str(package.parent)})
    yield installation
    stop(installation)
    assert processes.of_airflow(installation.home) == []


def test_it_starts_once_tells_what_comes_and_ends(faked: Installation) -> None:
    said: list[str] = []
    start(faked, Reporter(said.append))
    keeper = find_keeper(faked)
    assert keeper is not None
    start(faked)
    assert find_keeper(faked) == keeper
    assert {line.split("s  ", 1)[1] for line in said[2:]} == {f"{name} is up" for name in faked.components}

    said.clear()
    stop(faked, Reporter(said.append))
    assert {line.split("s  ", 1)[1] for line in said[1:-1]} == {f"{name} has ended" for name in faked.components}
    assert said[-1].endswith("nothing of it runs")
    assert find_keeper(faked) is None


def test_it_starts_again_at_its_ports_after_its_keeper_was_killed(faked: Installation) -> None:
    start(faked)
    keeper, ports = find_keeper(faked), (faked.port, faked.task_port)
    assert keeper is not None
    orphans = list(processes.components(keeper).values())
    keeper.kill()
    psutil.wait_procs([keeper], 10)
    assert find_keeper(faked) is None
    said: list[str] = []

    start(faked, Reporter(said.append))

    assert "ended 5 processes of this Airflow that had lost their keeper" in said[1]
    assert [process for process in orphans if lifecycle._lives(process)] == []
    assert (faked.port, faked.task_port) == ports
    assert all(component.is_up for component in list_components(faked))


def test_what_a_killed_keeper_left_is_ended_without_a_new_start(faked: Installation) -> None:
    start(faked)
    keeper = find_keeper(faked)
    assert keeper is not None
    keeper.kill()
    said: list[str] = []
    stop(faked, Reporter(said.append))
    assert "killed 5 processes of Airflow and 0 of experiments that were left" in said[-2]
    assert faked.taken_ports() == []


def test_a_database_that_is_locked_at_the_start_ends_nothing_and_is_told(faked: Installation) -> None:
    (faked.home / "scheduler").touch()
    said: list[str] = []
    start(faked, Reporter(said.append))
    why = "sqlite3.OperationalError: database is locked; it starts again in 1 s; see"
    assert [line for line in said if f"{why} {faked.log('scheduler')}" in line]

    def starts() -> tuple[int, ...]:
        lines = (faked.home / "starts").read_text().splitlines()
        return tuple(lines.count(name) for name in ("scheduler", "triggerer", "api-server"))

    # The health is not the program's own here, so that its process may be there before its first line has run.
    wait_until(lambda: starts() == (2, 1, 2), "the second start of the scheduler", 20)
