"""The private Airflow, its processes and its environment, without starting it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from rich.console import Console

from trialflow.experiment.operating.actions import Actions
from trialflow.experiment.running import ExperimentSteps
from trialflow.settings import Settings
from trialflow.testing import make_spec
from trialflow_airflow.demo import _Demo, _show
from trialflow_airflow.embedded import Embedded
from trialflow_airflow.identity import DAG_ID, identify

RUN = "demo__1"
COMMAND = f"{sys.executable} -m trialflow_airflow.embedded"


def start_sleep(**environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "300"], env={**os.environ, **environment}, start_new_session=True)


def test_ending_it_spares_the_programs_of_a_shell_that_has_its_variables(tmp_path: Path) -> None:
    script = f'eval "$({COMMAND} env)"; sleep 20 & {COMMAND} down; echo "down: $?"; kill $! && echo spared'
    environment = {**os.environ, "TRIALFLOW_EMBEDDED_HOME": str(tmp_path)}
    shell = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert shell.stdout == "down: 0\nspared\n", shell.stderr


@pytest.mark.parametrize("left", ["task", "trial", "host"])
def test_ending_it_ends_what_has_left_its_process_group(tmp_path: Path, left: str) -> None:
    embedded = Embedded.open(tmp_path)
    environments = {
        "task": embedded.environment(),
        "trial": {"NNI_SYS_DIR": f"{tmp_path}/experiments/expaaaaa/trials/traaa/1"},
        "host": {"TRIALFLOW_HOST": f"{tmp_path}/experiments/expaaaaa/algorithm"},
    }
    with start_sleep(**environments[left]) as process:
        embedded.stop()
        assert process.wait(10) == -signal.SIGKILL


def test_it_has_nothing_of_another_airflow_that_the_shell_is_set_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Embedded.open(tmp_path, {"AIRFLOW__CORE__PARALLELISM": "3"})
    expected = {**own.settings(), "AIRFLOW__CORE__PARALLELISM": "3", "TRIALFLOW_TRIAL_SDK": "own"}
    foreign = ("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", "AIRFLOW__SECRETS__BACKEND", "AIRFLOW_CONN_X")
    for name in [*own.settings(), *foreign]:
        monkeypatch.setenv(name, "of another one")
    monkeypatch.setenv("TRIALFLOW_TRIAL_SDK", "own")

    environment = own.environment()

    assert {name: value for name, value in environment.items() if name in expected} == expected
    assert "of another one" not in environment.values()


def make_experiment(embedded: Embedded) -> ExperimentSteps:
    """The experiment of the demo's run, without Airflow."""
    settings = Settings(home=embedded.home, store=embedded.store_url)
    return ExperimentSteps.create(identify(DAG_ID, RUN).experiment_id, make_spec(), settings)


def test_the_demo_names_the_files_that_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embedded = Embedded.open(tmp_path)
    steps = make_experiment(embedded)
    steps.conclude()
    folder = Path(steps.context.experiment.folder)
    assert not (folder / "history.png").exists()

    assert _show(Console(width=200), embedded, RUN, "failed") == 1

    named = re.findall(rf"^{folder}/(.*)$", capsys.readouterr().out, re.MULTILINE)
    assert named == ["result.json", "trials.csv"]


def test_a_demo_that_is_interrupted_twice_says_what_it_did_not_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = _Demo(Console(), Embedded.open(tmp_path), RUN)
    assert demo.stop() == "No experiment was started."

    monkeypatch.setattr(_Demo, "_stop_run", MagicMock(side_effect=KeyboardInterrupt(signal.SIGINT)))
    demo.may_run = True
    assert demo.stop() == f"The run {RUN} goes on with the next make up."
    context = make_experiment(demo.embedded).context
    assert demo.stop() == (
        f"Experiment {context.id} was not stopped, and goes on with the next make up: nnictl stop {context.id}"
    )
    Actions(context.id, "ann", context.settings).stop()
    assert demo.stop() == (
        f"Experiment {context.id} is STOPPED with 0 of 0 trials done; the next make up clears away what is left of it."
    )
