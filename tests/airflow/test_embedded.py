"""The private Airflow, its processes and its environment, without starting it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trialflow_airflow.embedded import Embedded

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
