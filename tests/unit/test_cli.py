"""The command line against a small API server of the tests' own."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import stat
import struct
import subprocess
import sys
import termios
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner, Result

from trialflow import __version__
from trialflow.cli import app

TOKEN = "good-token"
EXPERIMENTS = [
    {"id": name, "experimentName": "digits", "status": status, "platform": "local", "dagId": "nni_experiment"}
    for name, status in (("abcd1111", "RUNNING"), ("abcd2222", "DONE"), ("zzzz3333", "STOPPED"))
]
TRIALS = [
    {
        "id": f"T{number:04}",
        "sequenceId": number,
        "status": "SUCCEEDED",
        "value": number / 10,
        "hyperParameters": [json.dumps({"parameters": {"lr": 0.1, "layer": {"_name": "Conv", "k": 3}}})],
    }
    for number in range(3)
]


def _next(answers: list[Any]) -> Any:
    return answers.pop(0) if len(answers) > 1 else answers[0]


class FakeAirflow(ThreadingHTTPServer):
    """Answers like Airflow's API server with our interface; notes what it was asked to do."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, Any]] = []
        self.experiments = [dict(item) for item in EXPERIMENTS]
        self.refused = ""
        self.run_state = "running"
        # The run's state, and whether a task of it has failed, each time that it is asked for; then the last one.
        self.run_states: list[str] = []
        self.failed: list[bool] = [True]
        self.known = True
        self.trials = TRIALS
        # The experiment's status each time that its profile is asked for; then it is done.
        self.statuses: list[str] = []
        self.changes: list[Any] = [[{"time": 1000.0, "who": "ann", "what": "concurrency", "value": 3}]]
        # What the log of the trial T0009 holds each time it is asked for; None: there is none yet.
        self.written: list[str | None] = []
        self.results = [{"parameter": {"lr": 0.1, "n": {"_name": "a"}}, "value": 0.5, "id": "T0001"}]
        self.study = b"SQLite format 3\0"
        self.metrics: list[Any] = []
        self.suggesting: dict[str, Any] = {"tuner": {"builtinTunerName": "TPE"}}
        self.runs = ["run 1"]
        self.check_status: list[Any] = [None, "INITIALIZED", "RUNNING"]

    def profile(self, experiment_id: str) -> dict[str, Any]:
        status = self.statuses.pop(0) if self.statuses else "DONE"
        params = {"experimentName": "digits", "maxTrialNum": 9, "trialConcurrency": 2, "maxExecDuration": 60,
                  **self.suggesting, "trainingServicePlatform": "local"}  # fmt: skip
        return {"id": experiment_id, "logDir": "/shared/abcd1111", "status": status, "statusReason": "",
                "params": params, "nextSequenceId": 3, "execDuration": 7, "revision": 0}  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeAirflow

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        body: Any = raw if self.headers.get("Content-Type") == "application/zip" else json.loads(raw or "null")
        path = self.path.partition("?")[0].removeprefix("/api/v1/nni")
        self.server.asked.append((self.command, self.path.removeprefix("/api/v1/nni"), body))
        if path == self.server.refused:
            self._answer(403, {"detail": "you may not"})
            return
        if path != "/auth/token" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"detail": "Not authenticated"})
            return
        self._answer(*self._decide(self.command, path, body))

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # the names are http.server's

    def _decide(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        parts = path.strip("/").split("/")
        if "dagRuns" in parts:
            return 200, self._run(parts)
        if "T0009" in parts:
            return self._follow(parts)
        if path == "/auth/token":
            good = body == {"username": "ann", "password": "secret"}
            return (201, {"access_token": TOKEN}) if good else (401, {"detail": "no"})
        if parts[-1] == "check-status":
            status = self.server.check_status.pop(0) if self.server.check_status else None
            return (200, {"status": status, "reason": "", "errors": []}) if status else (404, {"detail": "none"})
        answers: dict[tuple[str, str], Any] = {
            ("GET", "experiments"): self.server.experiments,
            ("POST", "experiment"): {"experiment_id": "newaaaaa", "dag_id": "nni_experiment", "run_id": "run 1"},
            ("POST", "resume"): {"experiment_id": "abcd2222", "dag_id": "nni_experiment", "run_id": "run 2"},
            ("POST", "stop"): {"status": "STOPPED", "reason": "stopped by ann"},
            ("GET", "trial-jobs"): self.server.trials,
            ("GET", "changes"): lambda: _next(self.server.changes),
            ("GET", "experiment"): lambda: self.server.profile(parts[1]),
            ("GET", "job-statistics"): [{"trialJobStatus": "SUCCEEDED", "trialJobNumber": 3}],
            ("GET", "runs"): self.server.runs,
            ("GET", "metric-data"): self.server.metrics,
            ("GET", "export-data"): self.server.results,
            ("GET", "export-study"): self.server.study,
            ("PUT", "experiment"): {**(body or {}), "revision": 4} if isinstance(body, dict) else {},
            ("POST", "trial-jobs"): {"sequenceId": 7},
            ("POST", "known"): {"known": self.server.known},
            ("POST", "uploads"): {"folder": "/uploads/1"},
            ("POST", "import-data"): {"imported": 2, "known": 0, "fit": 1},
        }
        if method == "DELETE":
            killed = {"id": parts[-1], "status": "USER_CANCELED", "reason": "killed by ann"}
            deleted = {"id": parts[1], "folder": "/x", "folder_deleted": parts[1] != "zzzz3333"}
            return 200, killed if "trial-jobs" in parts else deleted
        answer = answers.get((method, parts[-1]))
        answer = answer() if callable(answer) else answer
        return (404, {"detail": f"nothing at {path}"}) if answer is None else (200, answer)

    def _follow(self, parts: list[str]) -> tuple[int, Any]:
        """A trial that ends when all of its output was read."""
        if parts[-1] != "log":
            return 200, {"id": "T0009", **({"endTime": 1} if not self.server.written[1:] else {})}
        offset = int(parse_qs(urlsplit(self.path).query)["offset"][0])
        written = self.server.written.pop(0) if self.server.written else None
        return (404, {"detail": "has no stdout"}) if written is None else (200, written[offset:].encode())

    def _run(self, parts: list[str]) -> Any:
        if parts[-1] == "taskInstances":
            state = "failed" if _next(self.server.failed) else "running"
            failed = {"state": state, "map_index": -1, "try_number": 1}
            first = {**failed, "task_id": "load_experiment", "end_date": "2026-01-01T00:00:01Z"}
            return {"task_instances": [{**failed, "task_id": "finish", "end_date": "2026-01-01T00:00:02Z"}, first]}
        if "logs" in parts:
            said = "1 problem in the experiment" if "load_experiment" in parts else "no experiment in the store"
            detail = [{"exc_type": "X", "exc_value": said}]
            return {"content": [{"event": "Task failed", "level": "error", "error_detail": detail}]}
        return {"state": _next(self.server.run_states) if self.server.run_states else self.server.run_state}

    def _answer(self, status: int, content: Any) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("X-Log-Bytes", str(len(data)))
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Total-Count", str(len(content)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def airflow() -> Iterator[FakeAirflow]:
    with FakeAirflow() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TRIALFLOW_URL", "TRIALFLOW_TOKEN", "TRIALFLOW_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRIALFLOW_CLI_CONFIG", str(tmp_path / "own" / "nnictl.json"))
    return tmp_path / "own" / "nnictl.json"


def run(*arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=text)


@pytest.fixture
def logged_in(airflow: FakeAirflow) -> FakeAirflow:
    done = run("login", airflow.url, "--user", "ann", text="secret\n")
    assert done.exit_code == 0, done.output
    airflow.asked.clear()
    return airflow


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
    assert ("POST", "/experiment", {"config": str(Path.cwd() / "some/config.yml"), "dag_id": "nni_experiment"}) in (
        logged_in.asked
    )
    assert "The experiment id is newaaaaa" in done.output
    assert f"The Web UI urls are: {logged_in.url}/dags/nni_experiment/runs/run 1" in done.output
    assert "nnictl stop newaaaaa" in done.output
    assert "nnictl top newaaaaa" in done.output


def write_experiment(folder: Path) -> Path:
    folder.mkdir()
    (folder / "space.json").write_text("{}")
    (folder / "trial.py").write_text("import nni")
    (folder / "config.yml").write_text('{"searchSpacePath": "space.json", "trial": {"codeDir": ".", "command": "x"}}')
    return folder / "config.yml"


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
