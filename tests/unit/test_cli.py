"""The command line against a small API server of the tests' own."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import pty
import stat
import struct
import subprocess
import sys
import termios
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from trialflow import __version__
from trialflow.training.local.interpreter import machine_id

from .cli_lab import TRIALS, FakeAirflow, airflow, config, logged_in, run, write_experiment

__all__ = ["airflow", "config", "logged_in"]  # Fixtures.
RUNNABLE = {
    "searchSpace": {"x": {"_type": "uniform", "_value": [0, 1]}},
    "trialCommand": "python3 trial.py",
    "trialConcurrency": 1,
    "tuner": {"name": "Random"},
    "trainingService": {"platform": "local"},
}


def test_a_login_is_kept_for_its_owner_alone_and_used_from_then_on(logged_in: FakeAirflow, config: Path) -> None:
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert "secret" not in config.read_text()
    listed = run("experiment", "list", "--all")
    assert (listed.exit_code, [line.split("\t")[0] for line in listed.output.splitlines()]) == (
        0,
        ["abcd1111", "abcd2222", "zzzz3333"],
    )


def test_a_wrong_password_is_refused_and_nothing_is_kept(airflow: FakeAirflow, config: Path) -> None:
    done = run("login", airflow.url, "--user", "ann", text="wrong\n")
    assert (done.exit_code, "does not accept this login for ann" in done.output) == (1, True)
    assert not config.exists()


def test_a_kept_token_goes_to_no_other_address(logged_in: FakeAirflow) -> None:
    done = run("--url", "http://127.0.0.1:9", "experiment", "list")
    assert (done.exit_code, "there is no login for http://127.0.0.1:9" in done.output) == (1, True)


def test_options_go_before_the_environment_and_that_before_the_file(
    logged_in: FakeAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source(*options: str) -> str:
        return str(json.loads(run("--output", "json", *options, "config", "show").output)["from"])

    assert source().endswith("nnictl.json")
    monkeypatch.setenv("TRIALFLOW_URL", logged_in.url)
    assert source() == "TRIALFLOW_URL"
    assert source("--url", logged_in.url) == "--url"


def test_without_a_login_the_way_to_one_is_told() -> None:
    done = run("experiment", "list")
    assert (done.exit_code, "nnictl login" in done.output) == (1, True)


def test_a_token_that_has_expired_is_told_as_such(airflow: FakeAirflow) -> None:
    done = run("--url", airflow.url, "--token", "old", "experiment", "list")
    assert (done.exit_code, "has expired" in done.output) == (1, True)


def test_a_created_experiment_is_told_once_it_runs(logged_in: FakeAirflow) -> None:
    done = run("create", "-c", "some/config.yml", "-p", "8080", "--no-upload")
    assert done.exit_code == 0, done.output
    assert ("POST", "/experiment", {"config": str(Path.cwd() / "some/config.yml")}) in (
        logged_in.asked
    )
    assert "The experiment id is newaaaaa" in done.output
    assert f"The Web UI urls are: {logged_in.url}/dags/nni_experiment/runs/run 1" in done.output
    assert "nnictl stop newaaaaa" in done.output
    assert "nnictl top newaaaaa" in done.output


@pytest.mark.parametrize(
    ("options", "known", "sent"),
    [((), True, False), ((), False, True), (("--upload",), True, True), (("--no-upload",), False, False)],
)
def test_files_are_sent_to_an_airflow_that_does_not_have_them(
    logged_in: FakeAirflow, tmp_path: Path, options: tuple[str, ...], known: bool, sent: bool
) -> None:
    config = write_experiment(tmp_path / "experiment")
    logged_in.known = known
    done = run("create", "-c", str(config), *options)
    assert done.exit_code == 0, done.output
    bodies = {path.partition("?")[0]: body for method, path, body in logged_in.asked if method == "POST"}
    assert bodies["/experiment"]["config"] == ("/uploads/1/config.yml" if sent else str(config))
    assert ("/uploads" in bodies) is sent
    assert ("/uploads/known" in bodies) is (options == ())
    if sent:
        with zipfile.ZipFile(io.BytesIO(bodies["/uploads"])) as archive:
            assert archive.namelist() == ["config.yml", "space.json", "trial.py"]


def test_files_that_were_sent_before_are_not_sent_again(logged_in: FakeAirflow, tmp_path: Path) -> None:
    logged_in.known, logged_in.sent_before = False, "/uploads/before"
    config = write_experiment(tmp_path / "experiment")

    done = run("create", "--config", str(config))

    assert done.exit_code == 0, done.output
    bodies = {path: body for _, path, body in logged_in.asked}
    assert bodies["/experiment"]["config"] == "/uploads/before/config.yml"
    assert "/uploads" not in bodies
    asked = bodies["/uploads/known"]
    assert asked["machine"] == machine_id()
    assert asked["file_digest"] == hashlib.sha256(config.read_bytes()).hexdigest()


@pytest.mark.parametrize("is_here", [True, False])
def test_an_airflow_on_the_same_machine_learns_of_the_shell_s_python(
    logged_in: FakeAirflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_here: bool
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "/opt/env")
    monkeypatch.setenv("PRIVATE", "s3cr3t")
    config = write_experiment(tmp_path / "experiment")
    (config.parent / "trial.py").write_text("import nothing_of_this_name")
    config.write_text(json.dumps(RUNNABLE))
    logged_in.known, logged_in.machine = True, machine_id() if is_here else "another"

    done = run("create", "-c", str(config))

    assert done.exit_code == 0, done.output
    body = next(body for method, path, body in logged_in.asked if (method, path) == ("POST", "/experiment"))
    sent = body.get("environment", {})
    assert (sent.get("VIRTUAL_ENV"), "PRIVATE" in sent) == ("/opt/env" if is_here else None, False)
    assert ("of the shell that started the experiment" in done.output) is is_here


def test_an_experiment_whose_files_must_be_sent_and_cannot_be_is_not_started(
    logged_in: FakeAirflow, tmp_path: Path
) -> None:
    config = write_experiment(tmp_path / "experiment")
    (tmp_path / "experiment" / "space.json").unlink()
    done = run("create", "-c", str(config), "--upload")
    assert (done.exit_code, "space.json" in done.output) == (1, True)
    assert all(method == "GET" for method, _, _ in logged_in.asked)


@pytest.mark.parametrize("options", [(), ("--upload",)])
def test_a_file_that_is_not_there_is_refused_before_the_server_is_asked(
    logged_in: FakeAirflow, tmp_path: Path, options: tuple[str, ...]
) -> None:
    done = run("create", "-c", str(tmp_path / "nothere.yml"), *options)
    assert (done.exit_code, f"no such file; got {tmp_path}/nothere.yml" in done.output) == (1, True), done.output
    assert "--no-upload" in done.output
    assert logged_in.asked == []


def test_an_experiment_that_cannot_run_says_why_with_exit_code_1(logged_in: FakeAirflow) -> None:
    logged_in.run_state, logged_in.check_status = "failed", []
    done = run("create", "-c", "config.yml", "--no-upload")
    assert (done.exit_code, "1 problem in the experiment" in done.output) == (1, True)
    assert "no experiment in the store" not in done.output


@pytest.mark.parametrize(
    ("arguments", "stopped"),
    [
        ((), ["abcd1111"]),
        (("abcd",), ["abcd1111"]),
        (("abcd1111",), ["abcd1111"]),
        (("a*",), ["abcd1111"]),
        (("--all",), ["abcd1111"]),
    ],
)
def test_an_experiment_is_known_by_the_beginning_of_its_id(
    logged_in: FakeAirflow, arguments: tuple[str, ...], stopped: list[str]
) -> None:
    done = run("stop", *arguments)
    assert done.exit_code == 0, done.output
    posted = [path for method, path, _ in logged_in.asked if method == "POST"]
    assert posted == [f"/experiments/{name}/stop" for name in stopped]


def test_what_is_not_clear_is_listed_and_nothing_is_done(logged_in: FakeAirflow) -> None:
    logged_in.experiments[1]["status"] = "RUNNING"
    for arguments in ((), ("abcd",)):
        done = run("stop", *arguments)
        assert done.exit_code == 1
        assert "abcd1111 (RUNNING), abcd2222 (RUNNING)" in done.output
    assert all(method == "GET" for method, _, _ in logged_in.asked)
    done = run("trial", "ls", "abcd*")
    assert (done.exit_code, "exactly one experiment's id; there is: abcd1111" in done.output) == (1, True)
    assert run("stop", "abcd*").exit_code == 0
    assert sum(method == "POST" for method, _, _ in logged_in.asked) == 2


def test_trials_come_as_lines_in_a_pipe_and_as_json_when_asked(logged_in: FakeAirflow) -> None:
    lines = run("trial", "ls").output.splitlines()
    assert lines[2].split("\t") == ["2", "T0002", "SUCCEEDED", "0.2", "", "lr=0.1 layer=Conv(k=3)", ""]
    for line in ("--output json trial ls", "trial ls --output json", "trial --output=json ls"):
        assert json.loads(run(*line.split()).output) == TRIALS


@pytest.mark.parametrize(
    ("command", "value", "kind", "key", "sent"),
    [
        ("concurrency", "3", "TRIAL_CONCURRENCY", "trialConcurrency", 3),
        ("trialnum", "30", "MAX_TRIAL_NUM", "maxTrialNum", 30),
        ("duration", "2h", "MAX_EXEC_DURATION", "maxExecDuration", "2h"),
    ],
)
def test_an_update_sends_its_kind_and_its_value(
    logged_in: FakeAirflow, command: str, value: str, kind: str, key: str, sent: Any
) -> None:
    done = run("update", command, "--value", value)
    assert (done.exit_code, done.output) == (0, f"abcd1111\t{key}\t{sent}\t4\n")
    assert logged_in.asked[-1] == (
        "PUT", f"/experiments/abcd1111/experiment?update_type={kind}", {"params": {key: sent}}
    )  # fmt: skip


def test_a_search_space_is_sent_as_it_was_written(logged_in: FakeAirflow, tmp_path: Path) -> None:
    file = tmp_path / "space.yml"
    file.write_text("x: {_type: uniform, _value: [0, 1]}  # mm²\n", encoding="utf-8")
    done = run("update", "searchspace", "-f", str(file))
    assert (done.exit_code, done.output.split("\t")[:2]) == (0, ["abcd1111", "searchSpace"])
    assert logged_in.asked[-1][1:] == (
        "/experiments/abcd1111/experiment?update_type=SEARCH_SPACE", {"params": {"searchSpace": file.read_text()}}
    )  # fmt: skip
    asked = len(logged_in.asked)
    file.write_bytes(b"\xff")
    for name in (str(file), str(tmp_path / "none.yml")):
        done = run("update", "searchspace", "-f", name)
        assert (done.exit_code, f"{name} cannot be read: " in done.output) == (1, True)
    assert len(logged_in.asked) == asked


def test_a_trial_is_added_with_parameters_as_json_or_from_a_file(logged_in: FakeAirflow, tmp_path: Path) -> None:
    (tmp_path / "parameters.json").write_text('{"lr": 0.5}')
    for given in ('{"lr": 0.5}', f"@{tmp_path / 'parameters.json'}"):
        assert run("trial", "add", "-p", given).output == "abcd1111\t7\t\n"
        assert logged_in.asked[-1] == ("POST", "/experiments/abcd1111/trial-jobs", {"lr": 0.5})
    assert "nnictl resume zzzz3333" in run("trial", "add", "zzzz", "-p", "{}").output
    done = run("trial", "add", "-p", "lr=1")
    assert (done.exit_code, "must be JSON" in done.output) == (1, True)


def test_a_trial_is_killed_by_its_id(logged_in: FakeAirflow) -> None:
    assert run("trial", "kill").exit_code == 2
    done = run("trial", "kill", "abcd1111", "-T", "T0001")
    assert (done.exit_code, done.output) == (0, "T0001\tUSER_CANCELED\tkilled by ann\n")
    assert logged_in.asked[-1] == ("DELETE", "/experiments/abcd1111/trial-jobs/T0001", None)


@pytest.mark.parametrize(("status", "exit_code"), [("RUNNING", 0), ("STOPPED", 0), ("ERROR", 1)])
def test_the_status_of_an_experiment_that_failed_is_an_exit_code(
    logged_in: FakeAirflow, status: str, exit_code: int
) -> None:
    logged_in.check_status = [status]
    done = run("experiment", "status")
    assert (done.exit_code, done.output) == (exit_code, f"abcd1111\t{status}\t\n")


def test_the_addresses_of_an_experiment_s_runs_are_shown(logged_in: FakeAirflow) -> None:
    assert run("webui", "url").output == f"{logged_in.url}/dags/nni_experiment/runs/run 1\n"
    assert run("webui", "url", "abcd2222", "--output", "json").exit_code == 0
    assert ("GET", "/experiments/abcd2222/runs", None) in logged_in.asked
    logged_in.runs = []
    assert run("webui", "url").output == f"{logged_in.url}/dags/nni_experiment/runs\n"


def test_only_what_was_named_and_confirmed_is_deleted(logged_in: FakeAirflow) -> None:
    def deleted() -> list[str]:
        return [path for method, path, _ in logged_in.asked if method == "DELETE"]

    assert run("experiment", "delete", text="y\n").exit_code == 1
    assert run("experiment", "delete", "abcd2222", text="n\n").exit_code == 1
    assert deleted() == []
    assert run("experiment", "delete", "abcd2222", text="y\n").exit_code == 0
    assert deleted() == ["/experiments/abcd2222"]
    done = run("experiment", "delete", "--all", "--yes")
    assert deleted()[1:] == ["/experiments/abcd2222", "/experiments/zzzz3333"]
    assert done.output.splitlines()[1] == "zzzz3333\tyes\tthe server does not see /x"


def watch_in_a_terminal(*arguments: str) -> bytes:
    """What a command writes to a terminal until it ends."""
    command = [sys.executable, "-c", "from trialflow.cli import main; main()", *arguments]
    terminal, screen = pty.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with subprocess.Popen(command, stdout=screen, stderr=screen, env={**os.environ, "TERM": "xterm-256color"}) as shown:
        os.close(screen)
        written = b""
        with suppress(OSError):  # How a terminal ends that nobody writes to any more.
            while part := os.read(terminal, 65536):
                written += part
        assert shown.wait(60) == 0
    os.close(terminal)
    return written


def test_top_is_drawn_over_itself_until_the_experiment_ends_and_once_in_a_pipe(logged_in: FakeAirflow) -> None:
    logged_in.statuses = ["RUNNING"] * 6
    written = watch_in_a_terminal("top", "--time", "0.2")
    pictures = written.count(b"T0002")
    assert pictures >= 7
    # Each picture is written from the top of the screen over the one before; nothing is wiped in between.
    assert written.count(b"\x1b[2J") <= 1
    assert written.count(b"\x1b[H") >= pictures - 1
    logged_in.statuses = ["RUNNING"]
    lines = [line.split("\t") for line in run("top").output.splitlines()]
    assert (lines[0], [line[1] for line in lines[-3:]]) == (["id", "abcd1111"], ["T0002", "T0001", "T0000"])


def test_top_shows_all_that_run_until_the_last_of_them_ends(logged_in: FakeAirflow) -> None:
    logged_in.experiments[1]["status"] = "RUNNING"
    logged_in.statuses = ["RUNNING", "DONE", "RUNNING"]
    written = watch_in_a_terminal("top", "--time", "0.2")
    assert logged_in.statuses == []
    last = written[written.rindex(b"abcd1111") :]
    assert (last.count(b"abcd2222"), last.count(b"T0002")) == (1, 2)
    looks = json.loads(run("--output", "json", "top").output)
    assert [(look["id"], len(look["trialJobs"])) for look in looks] == [("abcd1111", 3), ("abcd2222", 3)]
    assert run("top", "zzzz").output.splitlines()[0] == "id\tzzzz3333"
    for item in logged_in.experiments:
        item["status"] = "DONE"
    done = run("top")
    assert (done.exit_code, "no experiment that runs" in done.output) == (1, True)


@pytest.mark.parametrize(("answer", "deleted"), [("y\n", ["abcd2222"]), ("n\n", [])])
def test_a_platform_is_cleaned_of_what_has_ended_there(
    logged_in: FakeAirflow, tmp_path: Path, answer: str, deleted: list[str]
) -> None:
    logged_in.experiments[2]["platform"] = "kubeflow"
    config = write_experiment(tmp_path / "experiment")
    config.write_text("trainingServicePlatform: local\nsearchSpacePath: nowhere\n")
    done = run("platform", "clean", "-c", str(config), text=answer)
    assert done.exit_code == (0 if deleted else 1), done.output
    assert [path for method, path, _ in logged_in.asked if method == "DELETE"] == [f"/experiments/{i}" for i in deleted]
    config.write_text("trainingServicePlatform: moon\n")
    assert run("platform", "clean", "-c", str(config), "--yes").exit_code == 1


def test_a_search_space_is_read_off_annotated_code(tmp_path: Path) -> None:
    (tmp_path / "trial.py").write_text('"""@nni.variable(nni.uniform(0, 1), name=x)"""\nx = 0.5\nraise SystemExit(1)\n')
    file = tmp_path / "space.json"
    done = run("ss_gen", "--trial_dir", str(tmp_path), "--trial_command", "python trial.py", "--file", str(file))
    assert done.exit_code == 0, done.output
    assert [body["_type"] for body in json.loads(file.read_text()).values()] == ["uniform"]
    (tmp_path / "trial.py").write_text("x = 0.5\n")
    done = run("ss_gen", "--trial_dir", str(tmp_path), "--file", str(file))
    assert (done.exit_code, "no file of the folder holds an annotation" in done.output) == (1, True)


def test_the_version_is_shown() -> None:
    assert run("--version").output == f"{__version__}\n"


def test_a_created_experiment_shows_the_warnings_that_a_check_shows(logged_in: FakeAirflow) -> None:
    logged_in.profile_extras = {"warnings": ["logDir has no effect"]}
    done = run("create", "-c", "some/config.yml", "--no-upload")
    assert (done.exit_code, done.stderr) == (0, "warning: logDir has no effect\n")
    logged_in.check_status = ["RUNNING"]
    done = run("create", "-c", "some/config.yml", "--no-upload", "--output", "json")
    assert json.loads(done.stdout)["warnings"] == ["logDir has no effect"]


@pytest.mark.parametrize("arguments", [(), ("--all",), ("abcd*",)])
def test_when_nothing_runs_there_is_nothing_to_be_stopped(logged_in: FakeAirflow, arguments: tuple[str, ...]) -> None:
    logged_in.experiments = logged_in.experiments[1:]
    done = run("stop", *arguments)
    assert (done.exit_code, done.output) == (0, "No experiment runs.\n")


def test_to_stop_what_has_ended_is_no_mistake(logged_in: FakeAirflow) -> None:
    done = run("stop", "abcd2222")
    assert (done.exit_code, done.output.split("\t")[0]) == (0, "abcd2222")


@pytest.mark.parametrize("command", ["trial ls", "experiment show", "top"])
def test_when_nothing_runs_a_look_says_so(logged_in: FakeAirflow, command: str) -> None:
    logged_in.experiments = logged_in.experiments[1:]
    done = run(*command.split())
    assert (done.exit_code, "no experiment" in done.output) == (1, True), done.output
    assert "abcd2222 (DONE)" in done.output
    assert "No experiment runs" in run("experiment", "list").stderr


def test_an_experiment_that_is_done_is_not_resumed_and_says_what_to_raise(logged_in: FakeAirflow) -> None:
    logged_in.finished = "it has had all its 9 trials; raise the number first: nnictl update trialnum abcd2222"
    done = run("resume", "abcd2222")
    assert (done.exit_code, done.output) == (0, f"Nothing was resumed: {logged_in.finished}\n")
    assert run("resume", "zzzz3333").exit_code == 1


def test_an_experiment_is_shown_with_its_best_trial_its_times_and_durations_that_can_be_read(
    logged_in: FakeAirflow,
) -> None:
    best = {"id": "T0002", "value": 0.25, "parameters": {"lr": 0.1}}
    logged_in.profile_extras = {"best": best, "startTime": 1_000_000, "endTime": 2_000_000, "execDuration": 90_061}
    shown = dict(line.split("\t") for line in run("experiment", "show", "abcd1111").output.splitlines())
    assert shown["best"] == "0.25 by trial T0002: lr=0.1"
    assert shown["duration"] == "1 day 1:01:01 of 1:00"
    assert {"started", "ended"} <= shown.keys()


def test_a_trial_in_a_list_says_what_happened_and_its_last_line(logged_in: FakeAirflow) -> None:
    reason = "exit code 1\nTraceback (most recent call last):\n  File x\nValueError: no\n\n"
    logged_in.trials = [{"id": "T1", "sequenceId": 0, "status": "FAILED", "hyperParameters": [], "reason": reason}]
    assert run("trial", "ls").output.rstrip("\n").split("\t")[-1] == "exit code 1: ValueError: no"
