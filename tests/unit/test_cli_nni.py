"""What people type who know NNI's nnictl: its options, and its commands that there are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trialflow import __version__

from .cli_lab import FakeAirflow, airflow, config, logged_in, run

__all__ = ["airflow", "config", "logged_in"]  # Fixtures.


@pytest.mark.parametrize(
    "command", ["", "create", "log", "log stdout", "log stderr", "trial ls", "stop", "experiment export", "ss_gen"]
)
def test_h_is_help_everywhere(command: str) -> None:
    done = run(*command.split(), "-h")
    assert (done.exit_code, "Usage:" in done.output) == (0, True), done.output
    assert done.output == run(*command.split(), "--help").output


def test_v_is_the_version() -> None:
    assert run("-v").output == f"{__version__}\n"


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("create -c {config}", ["-p 80", "-f", "-u x", "-d", "--port 80", "--foreground", "--url_prefix x", "--debug"]),
        ("resume abcd2222 --no-wait", ["-p 80", "-f", "-d", "-e x", "--experiment_dir x"]),
        ("ss_gen -d {folder} -f {folder}/space.json", ["-t x", "--trial_command x"]),
        ("view abcd2222", ["-p 80", "-e x"]),
    ],
)
def test_options_that_mean_nothing_here_are_taken_with_a_warning(
    logged_in: FakeAirflow, tmp_path: Path, command: str, options: list[str]
) -> None:
    (tmp_path / "config.yml").write_text("{}")
    words = command.format(config=tmp_path / "config.yml", folder=tmp_path).split()
    logged_in.check_status = ["RUNNING"] * 20
    for option in options:
        done = run(*words, *option.split())
        warned = [line for line in done.stderr.splitlines() if "has no effect" in line]
        assert (len(warned), "No such option" in done.output) == (1, False), done.output
    assert "has no effect" not in run(*words).stderr


def test_no_experiment_is_stopped_for_a_port(logged_in: FakeAirflow) -> None:
    done = run("stop", "-p", "8081")
    assert (done.exit_code, "name it by its id: nnictl stop ID" in done.stderr) == (1, True)
    assert logged_in.asked == []


@pytest.mark.parametrize(
    "command",
    ["algo register --meta x.yml", "package install -n SMAC", "hello", "jupyter-extension install",
     "experiment save abcd -p x", "experiment load -p x -c y", "trial codegen -t x"],
)  # fmt: skip
def test_a_command_that_there_is_not_answers_with_a_sentence(command: str) -> None:
    done = run(*command.split())
    assert (done.exit_code, "Trialflow has no `nnictl " in done.stderr) == (1, True), done.output
    assert "jupyter" not in run("--help").output


def test_a_log_is_cut_by_the_options_of_nni(logged_in: FakeAirflow) -> None:
    logged_in.check_status = ["DONE"] * 9
    logged_in.changes = [[{"time": 1e3 * at, "who": "ann", "what": "stop", "value": None} for at in (1, 2, 3)]]
    every = run("log", "stdout", "abcd2222").output.splitlines()
    assert len(every) == 3
    for option, lines in (("-H", every[:1]), ("-T", every[2:]), ("-t", every[2:])):
        assert run("log", "stdout", "abcd2222", option, "1").output.splitlines() == lines


@pytest.mark.parametrize("params", [{"advisor": {"builtinAdvisorName": "BOHB"}}, {"advisor": {"className": "BOHB"}}])
def test_an_advisor_is_shown_as_one(logged_in: FakeAirflow, params: dict[str, Any]) -> None:
    logged_in.suggesting = params
    assert "advisor\tBOHB" in run("experiment", "show", "abcd1111").output.splitlines()


def test_the_best_and_the_worst_trials_are_listed_by_value(logged_in: FakeAirflow) -> None:
    logged_in.trials = [*logged_in.trials, {"id": "T0008", "sequenceId": 8, "status": "FAILED"}]
    for option, expected in (("--head", ["T0002", "T0001"]), ("--tail", ["T0000", "T0001"])):
        listed = run("trial", "ls", option, "2").output.splitlines()
        assert [line.split("\t")[1] for line in listed] == expected
    assert run("trial", "ls", "--head", "1", "--tail", "1").exit_code == 1


def test_intermediate_results_are_exported_on_demand(logged_in: FakeAirflow, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    logged_in.metrics = [{"trialJobId": name, "data": json.dumps(data)} for name, data in
                         (("T0001", "0.1"), ("T0005", "9"), ("T0001", '{"default": 0.2}'))]  # fmt: skip

    assert run("experiment", "export", "-f", str(file), "-i").exit_code == 0
    assert json.loads(file.read_text()) == [
        {"parameter": logged_in.results[0]["parameter"], "value": 0.5, "id": "T0001", "trialJobId": "T0001",
         "intermediate": [0.1, {"default": 0.2}]}
    ]  # fmt: skip
    assert ("GET", "/experiments/abcd1111/metric-data?type=PERIODICAL&limit=1000&offset=0", None) in logged_in.asked
    assert run("experiment", "import", "-f", str(file)).exit_code == 0
    done = run("experiment", "export", "-f", str(file), "-i", "-t", "csv")
    assert (done.exit_code, "which a CSV file cannot hold" in done.stderr) == (1, True)
