"""The forms in which the command line shows things to people and to programs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from trialflow.cli import commands

from .cli_lab import FakeAirflow, airflow, config, logged_in, run, write_experiment

__all__ = ["airflow", "config", "logged_in"]  # Fixtures.

RUNNING = ("abcd1111", "abcd2222")
VALID = """
authorName: tests
experimentName: valid
trialConcurrency: 1
maxTrialNum: 2
trainingServicePlatform: local
searchSpacePath: space.json
useAnnotation: false
tuner: {builtinTunerName: TPE}
trial: {command: python3 trial.py, codeDir: ., gpuNum: 0}
"""


@pytest.mark.parametrize(
    ("command", "document"),
    [
        ("stop --all", [{"id": name, "status": "STOPPED", "reason": "stopped by ann"} for name in RUNNING]),
        ("experiment delete abcd* -y", [{"id": name, "folder": "/x", "folder_deleted": True} for name in RUNNING]),
        ("platform clean -c {folder}/config.yml -y", [{"id": "zzzz3333", "folder": "/x", "folder_deleted": False}]),
        ("platform clean -c {folder}/other.yml -y", []),
        ("experiment export abcd1111 -f {folder}/x.json", {"id": "abcd1111", "trials": 1, "file": "{folder}/x.json"}),
        ("ss_gen -d {folder} -f {folder}/x.json", {"parameters": 1, "file": "{folder}/x.json"}),
        ("log trial abcd1111 -T T0009", {"stdout": ["one", "two"], "stderr": []}),
        ("login {url} -u ann --password secret", {"url": "{url}", "user": "ann", "file": "{kept}"}),
    ],
)
def test_what_is_asked_for_as_json_is_one_document(
    logged_in: FakeAirflow, tmp_path: Path, config: Path, command: str, document: Any
) -> None:
    logged_in.experiments[1]["status"] = "RUNNING"
    logged_in.written = ["one\ntwo\n"] * 9
    (tmp_path / "config.yml").write_text("trainingServicePlatform: local\n")
    (tmp_path / "other.yml").write_text("trainingServicePlatform: kubeflow\n")
    (tmp_path / "trial.py").write_text('"""@nni.variable(nni.uniform(0, 1), name=x)"""\nx = 0.5\n')

    def fill(text: str) -> str:
        return text.replace("{folder}", str(tmp_path)).replace("{url}", logged_in.url).replace("{kept}", str(config))

    done = run("--output", "json", *fill(command).split())
    assert (done.exit_code, json.loads(done.stdout)) == (0, json.loads(fill(json.dumps(document)))), done.output


def test_what_was_done_is_shown_even_when_the_next_is_refused(logged_in: FakeAirflow) -> None:
    logged_in.experiments[1]["status"] = "RUNNING"
    logged_in.refused = "/experiments/abcd2222/stop"
    done = run("stop", "--all", "--output", "json")
    assert (done.exit_code, [row["id"] for row in json.loads(done.stdout)]) == (1, ["abcd1111"])
    assert "you may not (403)" in done.stderr


@pytest.mark.parametrize("command", ["log stdout -f", "log stderr -f", "log trial -T T0009 -f"])
def test_what_has_no_end_is_refused_as_json(logged_in: FakeAirflow, command: str) -> None:
    done = run("--output", "json", *command.split())
    assert (done.exit_code, done.stdout, "leave out --follow" in done.stderr) == (1, "", True)


def test_a_checked_file_is_described_in_the_form_that_is_asked_for(tmp_path: Path) -> None:
    config = write_experiment(tmp_path / "experiment")
    (config.parent / "space.json").write_text('{"x": {"_type": "uniform", "_value": [0, 1]}}')
    config.write_text(VALID)
    assert json.loads(run("validate", "-c", str(config), "--output", "json").output)["platform"] == "local"
    lines = run("validate", "-c", str(config)).output.splitlines()
    assert ("platform\tlocal" in lines, lines[-1]) == (True, "The experiment can run.")


TRAP = "\x1b]52;c;ZXZpbA==\x07\x1b[31mred\x1b[0m\rback\b\x1b[2K\x1b[6n\x9b21t\x1bP\x1b"
SHOWN = "\\x1b]52;c;ZXZpbA==\\x07\x1b[31mred\x1b[0m\rback\b\x1b[2K\\x1b[6n\\x9b21t\\x1bP\\x1b"


def typed_in_a_terminal(*arguments: str) -> str:
    """What a command shows on a terminal of its own."""
    terminal, inside = pty.openpty()
    program = "from trialflow.cli import main; main()"
    done = subprocess.Popen([sys.executable, "-c", program, *arguments], stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    shown = b""
    with suppress(OSError):  # The end of a terminal is an error.
        while part := os.read(terminal, 1 << 16):
            shown += part
    os.close(terminal)
    assert done.wait() in (0, 1)
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("command", ["log trial abcd1111 -T T0009", "log trial abcd1111 -T T0009 --stream stdout"])
def test_a_terminal_obeys_nothing_that_a_trial_has_written_but_colours(logged_in: FakeAirflow, command: str) -> None:
    logged_in.written, logged_in.stderr = [TRAP], TRAP
    assert SHOWN in typed_in_a_terminal(*command.split())
    logged_in.written = [TRAP]
    assert run(*command.split()).stdout == TRAP


@pytest.mark.parametrize("command", ["trial ls abcd1111", "log stdout abcd1111", "log stderr abcd1111"])
def test_nor_what_stands_in_tables_and_lines(logged_in: FakeAirflow, command: str) -> None:
    logged_in.check_status = ["RUNNING"]
    logged_in.trials = [{**logged_in.trials[0], "status": "FAILED", "endTime": 1, "reason": "\x1b]0;x\x07\x1b[6n"}]
    shown = typed_in_a_terminal(*command.split())
    assert "\\x1b]0;x\\x07" in shown.replace("\n", "")
    assert [part for part in ("\x1b]", "\x1b[6n", "\x07") if part in shown] == []


def test_nor_what_a_server_refuses_with(logged_in: FakeAirflow) -> None:
    logged_in.finished = "no\x1b]52;c;x\x07"
    shown = typed_in_a_terminal("resume", "abcd2222")
    assert ("no\\x1b]52;c;x\\x07" in shown, "\x07" in shown) == (True, False)


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://airflow.example.com:8080", True),
        ("http://10.0.0.7:8080", True),
        ("http://127.0.0.1.example.com", True),
        ("http://localhost:8080", False),
        ("http://127.3.2.1", False),
        ("http://[::1]:8080", False),
        ("https://airflow.example.com", False),
    ],
)
def test_a_login_that_anybody_on_the_way_can_read_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, url: str, warned: bool
) -> None:
    monkeypatch.setattr(commands, "log_in", lambda *_: "token")
    done = run("login", url, "-u", "ann", "--password", "secret")
    assert (done.exit_code, "warning: password and token" in done.stderr) == (0, warned)
    assert "warning" not in done.stdout
