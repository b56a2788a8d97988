"""Trials as processes of this machine: they outlive their starter, and end with everything they started."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from trialflow.errors import TrainingError
from trialflow.processes import find_processes
from trialflow.records import TrialStatus
from trialflow.testing import TrainingServiceContract
from trialflow.testing.contracts import run_to_end
from trialflow.training import JobRequest, TrainingService
from trialflow.training.local import LocalTrainingService
from trialflow.training.local.section import LocalSection

SUBMITS_AND_HANGS = """
import json, sys, time
from trialflow.training import JobRequest
from trialflow.training.local import LocalTrainingService
from trialflow.training.local.section import LocalSection
given = json.loads(sys.argv[1])
LocalTrainingService().submit(JobRequest(**{**given, "section": LocalSection(**given["section"])}))
print("submitted", flush=True)
time.sleep(60)
"""


@pytest.fixture
def service() -> TrainingService:
    return LocalTrainingService()


@pytest.fixture
def make_request(service: TrainingService, tmp_path: Path) -> Iterator[Callable[[str], JobRequest]]:
    """Makes requests with a folder of their own each, and ends their jobs after the test."""
    (tmp_path / "code").mkdir()
    made: list[JobRequest] = []
    numbers = count()

    def make(command: str) -> JobRequest:
        number = next(numbers)
        folder = tmp_path / "trials" / str(number)
        made.append(
            JobRequest(
                experiment_id="exp12345",
                trial_id=f"t{number:04}",
                number=number,
                attempt=1,
                parameters={"x": 0.5},
                section=LocalSection(command, gpus=0),
                code_folder=str(tmp_path / "code"),
                folder=str(folder),
            )
        )
        return made[-1]

    yield make
    for request in made:
        service.cancel(service.handle(request))


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TestLocalTrainingService(TrainingServiceContract):
    """The contract, on processes."""


@pytest.mark.parametrize(
    ("command", "exit_code", "reason"),
    [
        ("no-such-command", 127, "command was not found"),
        ("/", 126, "cannot be executed"),
        ("exit 3", 3, "exit code 3"),
        ("kill -9 $$", 137, "SIGKILL"),
        ("kill -TERM $$", 143, "SIGTERM"),
        ("exit 255", 255, "exit code 255"),
    ],
)
def test_the_reason_says_how_the_command_ended(
    service: TrainingService, make_request: Callable[[str], JobRequest], command: str, exit_code: int, reason: str
) -> None:
    outcome = run_to_end(service, make_request(command))
    assert (outcome.status, outcome.exit_code, outcome.lost) == (TrialStatus.FAILED, exit_code, False)
    assert reason in outcome.reason


def test_a_trial_survives_the_death_of_its_starter(
    service: TrainingService, make_request: Callable[[str], JobRequest]
) -> None:
    request = make_request("while [ ! -e go ]; do sleep 0.02; done; exit 5")
    argument = json.dumps(asdict(request))
    with subprocess.Popen([sys.executable, "-c", SUBMITS_AND_HANGS, argument], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"submitted\n"
        starter.kill()
    handle = service.handle(request)
    assert service.poll(handle).outcome is None
    (Path(request.code_folder) / "go").touch()
    wait_for(lambda: service.poll(handle).outcome)
    outcome = service.poll(handle).outcome
    assert outcome is not None
    assert outcome.exit_code == 5


def test_processes_that_submit_at_once_start_one_job(
    service: TrainingService, make_request: Callable[[str], JobRequest]
) -> None:
    request = make_request('echo ran >> "$NNI_OUTPUT_DIR/runs"')
    code = SUBMITS_AND_HANGS.replace("time.sleep(60)", "")
    command = [sys.executable, "-c", code, json.dumps(asdict(request))]
    starters = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [starter.wait(30) for starter in starters] == [0, 0, 0]
    run_to_end(service, request)
    assert (Path(request.folder) / "runs").read_text() == "ran\n"


def test_a_submit_that_lost_the_race_does_not_wait_for_the_job_to_end(
    service: TrainingService, make_request: Callable[[str], JobRequest]
) -> None:
    request = make_request("echo ran >&2")
    folder = Path(request.folder)
    folder.mkdir(parents=True)
    with (folder / "lock").open("a") as lock:  # As another submit does, whose job then keeps the lock.
        fcntl.flock(lock, fcntl.LOCK_EX)
        loser = threading.Thread(target=service.submit, args=[request])
        loser.start()
        loser.join(0.2)
        assert loser.is_alive(), "it must not start the job beside the other"
        (folder / "started").touch()
        loser.join(5)
        waits = loser.is_alive()
    loser.join(5)
    assert not waits
    assert service.last_output(service.handle(request)) == ""


def test_a_cancel_ends_what_has_no_mark_and_ignores_the_request_to_end(
    service: TrainingService, make_request: Callable[[str], JobRequest]
) -> None:
    request = make_request("""env -i sh -c 'trap "" TERM; echo $$ > pid; exec sleep 600'""")
    service.submit(request)
    pid_file = Path(request.code_folder) / "pid"
    wait_for(lambda: pid_file.exists() and pid_file.read_text().strip())
    service.cancel(service.handle(request))
    assert not is_alive(int(pid_file.read_text()))


def test_a_cancel_ends_grandchildren_and_those_in_sessions_of_their_own(
    service: TrainingService, make_request: Callable[[str], JobRequest]
) -> None:
    sleeper = "sh -c 'echo $$ >> pids; exec sleep 600'"
    request = make_request(f'sh -c "{sleeper}" & setsid {sleeper} & env -i {sleeper} & wait')
    service.submit(request)
    pids_file = Path(request.code_folder) / "pids"
    wait_for(lambda: pids_file.exists() and len(pids_file.read_text().split()) == 3)
    pids = [int(pid) for pid in pids_file.read_text().split()]
    assert all(is_alive(pid) for pid in pids)
    service.cancel(service.handle(request))
    assert not any(is_alive(pid) for pid in pids)


def test_a_cancel_between_the_mark_and_the_process_of_a_start_is_not_overtaken(
    service: TrainingService, make_request: Callable[[str], JobRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request("touch ran; sleep 60")
    spawn = os.posix_spawn

    def cancelled_before(*arguments: Any, **options: Any) -> int:
        service.cancel(service.handle(request))
        return spawn(*arguments, **options)

    monkeypatch.setattr(os, "posix_spawn", cancelled_before)
    service.submit(request)

    wait_for(lambda: service.poll(service.handle(request)).outcome)
    assert find_processes(f"NNI_SYS_DIR={request.folder}") == []
    assert not (Path(request.code_folder) / "ran").exists()


def test_a_cancel_leaves_other_trials_alone(
    service: TrainingService, make_request: Callable[[str], JobRequest]
) -> None:
    one, other = make_request("sleep 600"), make_request("sleep 600")
    service.submit(one)
    service.submit(other)
    service.cancel(service.handle(one))
    assert service.poll(service.handle(other)).outcome is None


def test_a_job_whose_session_was_killed_is_lost(
    service: TrainingService, make_request: Callable[[str], JobRequest]
) -> None:
    outcome = run_to_end(service, make_request("kill -9 0"))
    assert outcome.lost
    assert outcome.exit_code is None
    assert "vanished" in outcome.reason


def test_a_job_of_another_machine_is_nobody_s_guess(
    service: TrainingService, make_request: Callable[[str], JobRequest]
) -> None:
    handle = replace(service.handle(make_request("true")), host="elsewhere")
    for call in (service.poll, service.cancel):
        with pytest.raises(TrainingError, match="a process of elsewhere"):
            call(handle)


def test_a_folder_that_cannot_be_made_is_a_training_error(
    service: TrainingService, make_request: Callable[[str], JobRequest]
) -> None:
    request = make_request("true")
    Path(request.folder).parent.mkdir()
    Path(request.folder).write_text("a file is in the way")
    with pytest.raises(TrainingError, match="could not be started"):
        service.submit(request)
    Path(request.folder).unlink()


def test_the_installation_s_secrets_do_not_reach_a_trial(
    service: TrainingService, make_request: Callable[[str], JobRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "_AIRFLOW_WWW_USER_PASSWORD", "AIRFLOW_CONN_X"):
        monkeypatch.setenv(name, "s3cr3t")
    monkeypatch.setenv("TRIALFLOW_STORE", "postgresql://user:s3cr3t@host/db")
    monkeypatch.setenv("TRIALFLOW_TRIAL_SDK", "own")
    monkeypatch.setenv("KEPT", "yes")
    request = make_request('env > "$NNI_OUTPUT_DIR/environment"')
    assert run_to_end(service, request).exit_code == 0
    lines = (Path(request.folder) / "environment").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if "=" in line)
    assert "s3cr3t" not in "".join(lines)
    assert not [name for name in environment if name.lstrip("_").startswith("AIRFLOW")]
    assert {name for name in environment if name.startswith("TRIALFLOW")} == {"TRIALFLOW_TRIAL_SDK"}
    assert (environment["KEPT"], environment["TRIALFLOW_TRIAL_SDK"]) == ("yes", "own")
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["NNI_SYS_DIR"] == request.folder
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_a_command_with_quotes_and_a_folder_with_spaces_are_taken_as_they_are(
    service: TrainingService, make_request: Callable[[str], JobRequest]
) -> None:
    request = make_request("""printf '%s' "it's \\$5" >&2""")
    moved = replace(request, folder=f"{request.folder} with 'quotes' \" and spaces")
    assert run_to_end(service, moved).exit_code == 0
    assert service.last_output(service.handle(moved)) == "it's $5"


def test_the_last_lines_of_the_error_output_come_before_the_output(
    service: TrainingService, make_request: Callable[[str], JobRequest]
) -> None:
    request = make_request("echo printed; seq 1 50 >&2")
    run_to_end(service, request)
    assert service.last_output(service.handle(request), max_lines=2) == "49\n50"
    quiet = make_request("echo printed")
    run_to_end(service, quiet)
    assert service.last_output(service.handle(quiet)) == "printed"


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("name", ["exit", "lock", "stderr"])
def test_a_pipe_in_a_file_s_place_holds_nobody_up(
    service: TrainingService, make_request: Callable[[str], JobRequest], name: str
) -> None:
    request = make_request(f'cd "$NNI_OUTPUT_DIR"; rm -f {name}; mkfifo {name}; echo ready > ready; exec sleep 600')
    service.submit(request)
    while not (Path(request.folder) / "ready").exists():
        time.sleep(0.01)
    handle = service.handle(request)
    assert (service.poll(handle).outcome is None) is (name != "lock")
    assert service.last_output(handle) == ""
    service.cancel(handle)


def test_a_trial_that_writes_into_the_exit_code_is_not_taken_at_its_word(
    service: TrainingService, make_request: Callable[[str], JobRequest]
) -> None:
    request = make_request('echo ended > "$NNI_OUTPUT_DIR/exit"; exit 3')
    assert run_to_end(service, request).exit_code == 3
