"""TensorBoard as the command line starts and ends it, with a program that stands in for it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from trialflow.cli import app, tensorboard
from trialflow.cli.client import Api

# Listens, as TensorBoard does, and notes what it was asked for.
PROGRAM = """#!{python}
import json, os, socket, sys, time
open({notes!r}, "w").write(json.dumps(sys.argv[1:]))
if os.path.exists({broken!r}):
    sys.exit("no module named protobuf")
server = socket.create_server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])))
time.sleep(300)
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with two trials, one of which has logged something, and a program of that name."""
    (tmp_path / "trials" / "one" / "tensorboard").mkdir(parents=True)
    program = tmp_path / "bin" / "tensorboard"
    program.parent.mkdir()
    program.write_text(
        PROGRAM.format(python=sys.executable, notes=str(tmp_path / "notes"), broken=str(tmp_path / "broken"))
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("TRIALFLOW_CLI_CONFIG", str(tmp_path / "own" / "nnictl.json"))
    monkeypatch.setenv("TRIALFLOW_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("TRIALFLOW_TOKEN", "token")
    jobs = [{"id": name, "logPath": str(tmp_path / "trials" / name)} for name in ("one", "two")]
    monkeypatch.setattr(Api, "find", lambda *_: {"id": "abcd1111"})
    monkeypatch.setattr(Api, "get_all", lambda *_: [*jobs, {"id": "waiting"}])
    monkeypatch.setattr(Api, "get", lambda _, path: jobs[0 if path.endswith("one") else 1])
    yield tmp_path
    run("stop")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["--output", "json", "tensorboard", *arguments])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_alive(pid: int) -> bool:
    return tensorboard._started_at(pid) is not None


def test_it_is_started_on_the_folders_that_are_here_and_ended_again(lab: Path) -> None:
    port = free_port()
    done = run("start", "--port", str(port))
    assert done.exit_code == 0, done.output
    started = json.loads(done.output)
    assert started["url"] == f"http://127.0.0.1:{port}"
    folder = lab / "trials" / "one" / "tensorboard"
    arguments = ["--logdir_spec", f"one:{folder}", "--port", str(port), "--host", "127.0.0.1"]
    assert json.loads((lab / "notes").read_text()) == arguments
    assert is_alive(started["pid"])
    taken = run("start", "--port", str(port))
    assert (taken.exit_code, "is taken" in taken.output) == (1, True)

    assert json.loads(run("stop").output) == [{"id": "abcd1111", "stopped": started["url"]}]
    assert not is_alive(started["pid"])
    assert json.loads(run("stop").output) == []


def test_it_ends_only_what_it_started(lab: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True) as other:
        entry = {"id": "abcd1111", "pid": other.pid, "started": "12345", "url": "http://127.0.0.1:1"}
        tensorboard._write([entry])
        tensorboard._end(entry)
        assert json.loads(run("stop").output) == []
        assert other.poll() is None
        other.kill()


def test_what_is_missing_is_said(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = run("start", "--trial", "two")
    assert (nothing.exit_code, "NNI_OUTPUT_DIR" in nothing.output) == (1, True)
    (lab / "broken").touch()
    broken = run("start", "--port", str(free_port()))
    assert (broken.exit_code, "no module named protobuf" in broken.output) == (1, True)
    assert tensorboard._read() == []
    monkeypatch.setenv("PATH", os.devnull)
    missing = run("start")
    assert (missing.exit_code, "pip install tensorboard" in missing.output) == (1, True)


def test_one_that_does_not_end_when_asked_is_killed(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "_END_SECONDS", 0.2)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        begun = time.monotonic()
        tensorboard._end({"pid": stubborn.pid, "started": tensorboard._started_at(stubborn.pid)})
        assert stubborn.wait(5) == -9
        assert time.monotonic() - begun < 5
