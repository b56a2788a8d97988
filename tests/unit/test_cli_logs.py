"""What experiments and trials have written, whole, cut and followed."""

from __future__ import annotations

import json

import pytest

from trialflow.cli import logs

from .cli_lab import FakeAirflow, airflow, config, logged_in, run

__all__ = ["airflow", "config", "logged_in"]  # Fixtures.


def test_a_trial_s_output_is_followed_from_before_it_begins_to_its_end(
    logged_in: FakeAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_LOOK_SECONDS", 0.01)
    logged_in.written = [None, "one\n", "one\n", "one\ntwo\n", "one\ntwo\n", "one\ntwo\n"]
    done = run("log", "trial", "--trial", "T0009", "-f")
    assert (done.exit_code, done.output) == (0, "one\ntwo\n")
    logged_in.written = [None]
    done = run("log", "trial", "-T", "T0009")
    assert (done.exit_code, "has no stdout" in done.output) == (1, True)


def test_what_happened_is_told_in_order_cut_and_followed(
    logged_in: FakeAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_LOOK_SECONDS", 0.01)
    logged_in.trials = [{"id": "T0001", "sequenceId": 0, "status": "FAILED", "startTime": 500, "endTime": 2000,
                         "reason": "exit 1\nmore"}]  # fmt: skip
    logged_in.check_status = ["RUNNING"]
    events = [line.split("\t")[1] for line in run("log", "stdout").output.splitlines()]
    assert events == ["trial #0 T0001 started", "ann: concurrency 3", "trial #0 T0001 ended, FAILED: exit 1"]
    for options, expected in ((("--head", "1"), events[:1]), (("--tail", "2"), events[1:])):
        logged_in.check_status = ["RUNNING"]
        assert [line.split("\t")[1] for line in run("log", "stdout", *options).output.splitlines()] == expected
    logged_in.check_status = ["RUNNING", "RUNNING", "STOPPED"]
    stop = {"time": 3000.0, "who": "bob", "what": "stop", "value": None}
    logged_in.changes = [logged_in.changes[0], logged_in.changes[0], [*logged_in.changes[0], stop]]
    followed = [line.split("\t")[1] for line in run("log", "stdout", "-f").output.splitlines()]
    assert followed == [*events, "bob: stop "]
    assert run("log", "stdout", "--path").output == "/shared/abcd1111\n"


def test_the_errors_of_failed_runs_are_shown(logged_in: FakeAirflow) -> None:
    assert run("log", "stderr").output == "1 problem in the experiment\n"
    assert json.loads(run("log", "stderr", "--output", "json").output) == ["1 problem in the experiment"]


def test_failures_are_followed_until_the_experiment_and_its_last_run_have_ended(
    logged_in: FakeAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_LOOK_SECONDS", 0.01)
    logged_in.check_status = ["RUNNING", "RUNNING", "ERROR", "ERROR"]
    logged_in.run_states = ["running", "running", "running", "failed"]
    logged_in.failed = [False, True]
    done = run("log", "stderr", "-f")
    assert (done.exit_code, done.output) == (0, "1 problem in the experiment\n")
    assert (logged_in.check_status, logged_in.run_states) == ([], ["failed"])


def test_what_a_trial_wrote_to_stderr_comes_on_stderr(logged_in: FakeAirflow) -> None:
    logged_in.written, logged_in.stderr = ["one\n", "one\n"], "Traceback\nValueError: no\n"
    done = run("log", "trial", "-T", "T0009")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "one\n", "Traceback\nValueError: no\n")
    done = run("log", "trial", "-T", "T0009", "--stream", "stderr")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "Traceback\nValueError: no\n", "")
    logged_in.written = ["one\n", "one\n"]
    done = run("log", "trial", "-T", "T0009", "--output", "json")
    assert json.loads(done.stdout) == {"stdout": ["one"], "stderr": ["Traceback", "ValueError: no"]}


def test_the_last_words_of_failed_trials_are_shown_with_those_of_failed_runs(logged_in: FakeAirflow) -> None:
    logged_in.trials = [{"id": "T0001", "sequenceId": 4, "status": "FAILED", "reason": "exit code 1\nTypeError: x"}]
    assert run("log", "stderr").output.splitlines() == [
        "1 problem in the experiment", "trial #4 T0001 failed: exit code 1", "TypeError: x",
    ]  # fmt: skip
