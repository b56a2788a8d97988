"""A small API server of the tests' own, and the command line that talks to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner, Result

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
        self.known, self.machine = True, "another"
        # Where files lie that were sent before.
        self.sent_before: str | None = None
        self.trials = TRIALS
        # The experiment's status each time that its profile is asked for; then it is done.
        self.statuses: list[str] = []
        self.changes: list[Any] = [[{"time": 1000.0, "who": "ann", "what": "concurrency", "value": 3}]]
        # What the log of the trial T0009 holds each time it is asked for; None: there is none yet.
        self.written: list[str | None] = []
        self.stderr: str | None = None
        self.profile_extras: dict[str, Any] = {}
        # What resuming is refused with.
        self.finished = ""
        self.results = [{"parameter": {"lr": 0.1, "n": {"_name": "a"}}, "value": "0.5", "trialJobId": "T0001"}]
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
                "params": params, "nextSequenceId": 3, "execDuration": 7, "revision": 0,
                **self.profile_extras}  # fmt: skip

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
        if self.server.finished and path.endswith("/resume"):
            self._answer(409, {"detail": self.server.finished})
            return
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
            ("GET", "experiments-info"): self.server.experiments,
            ("GET", "T0001"): lambda: self.server.metrics if "metric-data" in parts else self.server.trials[1],
            ("GET", "machine"): self.server.machine,
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
            ("POST", "known"): {"known": self.server.known, "folder": self.server.sent_before},
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
        query = parse_qs(urlsplit(self.path).query)
        offset = int(query["offset"][0])
        if query["name"] == ["stderr"]:
            said = self.server.stderr
            return (404, {"detail": "has no stderr"}) if said is None else (200, said[offset:].encode())
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


def write_experiment(folder: Path) -> Path:
    folder.mkdir()
    (folder / "space.json").write_text("{}")
    (folder / "trial.py").write_text("import nni")
    (folder / "config.yml").write_text('{"searchSpacePath": "space.json", "trial": {"codeDir": ".", "command": "x"}}')
    return folder / "config.yml"
