"""The local platform as NNI's: which folder, which shell, which Python, which GPUs, and what ends a trial."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trialflow.cli.files import load_in_shell
from trialflow.errors import ConfigError
from trialflow.experiment.loading import load_experiment
from trialflow.experiment.loading.load import describe_trial_python
from trialflow.experiment.loading.trial_script import find_script
from trialflow.experiment.operating import Actions
from trialflow.experiment.running import ExperimentSteps, TrialWatch
from trialflow.experiment.showing.logs import LogName, read_trial_log
from trialflow.experiment.showing.nni_views import show_trial
from trialflow.processes import find_processes
from trialflow.records import Trial, TrialStatus
from trialflow.settings import Settings, get_settings
from trialflow.training.local import LocalTrainingService
from trialflow.training.local.interpreter import VARIABLES, machine_id, read_environment, sent_environment

REPORTS = "import nni\nparameters = nni.get_next_parameter()\n{}\nnni.report_final_result(parameters['x'])\n"
V1: dict[str, Any] = {
    "authorName": "tests",
    "experimentName": "local",
    "trialConcurrency": 1,
    "maxTrialNum": 2,
    "trainingServicePlatform": "local",
    "searchSpace": {"x": {"_type": "uniform", "_value": [0, 1]}},
    "tuner": {"builtinTunerName": "Random"},
}


def write_experiment(folder: Path, script: str = "", **trial: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trial.py").write_text(REPORTS.format(script))
    config = {**V1, "trial": {"command": "python3 trial.py", "codeDir": ".", **trial}}
    (folder / "config.yml").write_text(json.dumps(config))
    return folder / "config.yml"


def make_steps(tmp_path: Path, config: Path, environment: Any = None) -> ExperimentSteps:
    settings = Settings(home=tmp_path / "home", allowed_roots=())
    spec = load_experiment(str(config), settings, environment=environment)
    steps = ExperimentSteps.create("expaaaaa", spec, settings)
    steps.stage_code()
    steps.start()
    return steps


def run_trial(steps: ExperimentSteps, index: int = 0) -> Trial:
    trial = start_trial(steps, index)
    watch = TrialWatch(steps.context, trial)
    deadline = time.monotonic() + 60
    while (ended := watch.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return steps.trials.report(ended)


def start_trial(steps: ExperimentSteps, index: int = 0) -> Trial:
    trial = steps.trials.suggest(steps.plan_batch(1, "run")[index], "run")
    assert isinstance(trial, Trial)
    return trial


def output_of(steps: ExperimentSteps, trial: Trial) -> str:
    return read_trial_log(steps.context.experiment, trial, LogName.STDOUT, 0, 10_000).content.decode()


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


# ── where it runs ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_trial_runs_in_the_user_s_own_folder(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project/data").write_text("beside")
    script = "print(open('../data').read()); open('written', 'w').close()"
    steps = make_steps(tmp_path, write_experiment(tmp_path / "project/nni", script))

    trial = run_trial(steps)

    assert (trial.status, trial.reason, output_of(steps, trial)) == (TrialStatus.SUCCEEDED, "", "beside\n")
    assert (tmp_path / "project/nni/written").exists()
    assert (Path(str(steps.context.experiment.code_folder)) / "trial.py").is_file()


def test_a_command_may_leave_its_folder(tmp_path: Path) -> None:
    config = write_experiment(tmp_path / "project/nni", command="cd ../;  CUDA_VISIBLE_DEVICES=0 python3 above.py  ")
    (tmp_path / "project/above.py").write_text(REPORTS.format(""))

    assert run_trial(make_steps(tmp_path, config)).status is TrialStatus.SUCCEEDED


def test_with_use_code_copy_a_trial_runs_in_the_copy(tmp_path: Path) -> None:
    script = "import os; print(os.getcwd()); open('written', 'w').close()"
    steps = make_steps(tmp_path, write_experiment(tmp_path / "project", script, useCodeCopy=True))

    trial = run_trial(steps)

    assert output_of(steps, trial).strip() == steps.context.experiment.code_folder
    assert not (tmp_path / "project/written").exists()


def test_annotated_code_runs_as_it_was_rewritten(tmp_path: Path) -> None:
    config = write_experiment(tmp_path / "project")
    (tmp_path / "project/trial.py").write_text(
        "import nni\n'''@nni.variable(nni.choice(0.25), name=x)'''\nx = 9\n'''@nni.report_final_result(x)'''\n"
    )
    data = {key: value for key, value in json.loads(config.read_text()).items() if key != "searchSpace"}
    config.write_text(json.dumps({**data, "useAnnotation": True}))

    assert run_trial(make_steps(tmp_path, config)).value == 0.25


@pytest.mark.parametrize(("same_size", "written_again"), [(True, True), (False, True), (True, False)])
def test_a_trial_says_when_its_code_has_changed_since_the_copy_was_made(
    tmp_path: Path, same_size: bool, written_again: bool
) -> None:
    config = write_experiment(tmp_path / "project", "print('a')")
    steps = make_steps(tmp_path, config)
    if written_again:
        (tmp_path / "project/trial.py").write_text(REPORTS.format("print('b')" if same_size else "print('longer')"))
    (tmp_path / "project/output.csv").write_text("of no interest")

    trial = run_trial(steps)

    assert trial.status is TrialStatus.SUCCEEDED
    assert ("the code has changed" in trial.reason, "trial.py differs" in trial.reason) == (written_again,) * 2


def test_a_code_folder_that_is_gone_leaves_the_copy_to_run(tmp_path: Path) -> None:
    config = write_experiment(tmp_path / "project")
    steps = make_steps(tmp_path, config)
    (tmp_path / "project").rename(tmp_path / "moved")

    assert run_trial(steps).status is TrialStatus.SUCCEEDED


# ── its folder ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_output_folder_is_called_like_the_trial_in_every_attempt(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; name = os.environ['NNI_OUTPUT_DIR']; print(name, flush=True)\n"
        "os.killpg(0, signal.SIGKILL) if 'attempt-2' not in name else None"
    )
    steps = make_steps(tmp_path, write_experiment(tmp_path / "project", script))

    trial = run_trial(steps)

    folders = [f"{steps.context.experiment.folder}/trials/{name}{trial.id}" for name in ("", "attempt-2/")]
    assert (trial.status, trial.attempt) == (TrialStatus.SUCCEEDED, 2)
    assert [(Path(folder) / "stdout").read_text().strip() for folder in folders] == folders
    assert output_of(steps, trial).strip() == folders[1]


def test_a_job_that_an_earlier_version_started_is_found_where_it_lies(tmp_path: Path) -> None:
    service = LocalTrainingService()
    former = tmp_path / "trials/tr123/1"
    former.mkdir(parents=True)
    (former / "started").touch()

    assert service.attempt_folder(tmp_path, "tr123", 1) == former
    assert service.attempt_folder(tmp_path, "other", 1) == tmp_path / "trials/other"
    (tmp_path / "trials/tr123/started").touch()  # What a trial of today puts into its folder leads nobody astray.
    assert service.attempt_folder(tmp_path, "tr123", 1) == tmp_path / "trials/tr123"


# ── what ends it ─────────────────────────────────────────────────────────────────────────────────────────────────

SAVES = """
import os, signal, sys, time
def save(*_):
    with open(os.path.join(os.environ["NNI_OUTPUT_DIR"], "checkpoint"), "a") as file:
        file.write("saved ")
    time.sleep(0.3)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(300)
"""


def test_a_trial_that_is_cancelled_can_save_what_it_has(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, write_experiment(tmp_path / "project", SAVES))
    trial = start_trial(steps)
    wait_for(lambda: "ready" in (folder_of(trial) / "stdout").read_text())

    steps.trials.end(trial, TrialStatus.USER_CANCELED, "killed")

    assert (folder_of(trial) / "checkpoint").read_text() == "saved "
    assert find_processes(f"NNI_SYS_DIR={folder_of(trial)}") == []


def test_a_trial_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    script = SAVES.replace("(signal.SIGTERM, save)", "(signal.SIGTERM, signal.SIG_IGN)")
    steps = make_steps(tmp_path, write_experiment(tmp_path / "project", script))
    trial = start_trial(steps)
    wait_for(lambda: "ready" in (folder_of(trial) / "stdout").read_text())

    before = time.monotonic()
    steps.trials.end(trial, TrialStatus.USER_CANCELED, "killed")

    assert 4 < time.monotonic() - before < 9
    assert find_processes(f"NNI_SYS_DIR={folder_of(trial)}") == []


def test_a_trial_is_shown_as_cancelled_when_nothing_of_it_runs_any_more(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, write_experiment(tmp_path / "project", SAVES))
    trial = start_trial(steps)
    steps.context.store.set_running(trial, time.time())
    killed = Actions(steps.context.id, "ann", steps.context.settings).kill(trial.id)

    assert (killed.status, show_trial(killed, None)["status"]) == (TrialStatus.USER_CANCELED, "RUNNING")
    assert show_trial(steps.trials.report(killed), None)["status"] == "USER_CANCELED"


def test_a_canceller_that_was_killed_leaves_a_request_that_is_not_repeated(tmp_path: Path) -> None:
    script = SAVES.replace("time.sleep(0.3)", "time.sleep(2)")
    steps = make_steps(tmp_path, write_experiment(tmp_path / "project", script))
    trial = start_trial(steps)
    wait_for(lambda: "ready" in (folder_of(trial) / "stdout").read_text())
    code = (
        "import json, sys; from trialflow.training.local import LocalTrainingService\n"
        "service = LocalTrainingService(); service.cancel(service.read_handle(json.loads(sys.argv[1])))"
    )
    with subprocess.Popen([sys.executable, "-c", code, json.dumps(trial.job)]) as canceller:
        wait_for((folder_of(trial) / "checkpoint").exists)
        canceller.kill()

    steps.trials.end(trial, TrialStatus.USER_CANCELED, "killed")

    assert (folder_of(trial) / "checkpoint").read_text() == "saved "
    assert find_processes(f"NNI_SYS_DIR={folder_of(trial)}") == []


def folder_of(trial: Trial) -> Path:
    assert trial.job is not None
    return Path(trial.job["folder"])


# ── what runs it ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_command_for_bash_is_run_by_bash(tmp_path: Path) -> None:
    config = write_experiment(tmp_path / "project", command='source ./settings && [[ $WHO == me ]] && python3 trial.py')
    (tmp_path / "project/settings").write_text("WHO=me\n")

    assert run_trial(make_steps(tmp_path, config)).status is TrialStatus.SUCCEEDED


@pytest.fixture
def own_python(tmp_path: Path) -> Path:
    """An environment with a module that no other Python has; its `python3` is the one that runs the tests."""
    folder = tmp_path / "env"
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").mkdir()
    (folder / "lib/only_there.py").write_text("NAME = 'there'\n")
    program = f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{folder}/lib" exec {sys.executable} "$@"\n'
    (folder / "bin/python3").write_text(program)
    (folder / "bin/python3").chmod(0o755)
    (folder / "pyvenv.cfg").touch()
    return folder


def shell_of(environment: Path) -> dict[str, str]:
    return {"machine": machine_id(), "VIRTUAL_ENV": str(environment), "PATH": f"{environment}/bin:/usr/bin:/bin"}


IMPORTS = "import only_there, os; print(only_there.NAME, os.environ.get('VIRTUAL_ENV'))"


@pytest.mark.parametrize("how", ["shell", "key", "setting"])
def test_python3_is_the_one_of_whoever_starts_the_experiment(
    tmp_path: Path, own_python: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "setting":
        monkeypatch.setenv("TRIALFLOW_TRIAL_PYTHON_PATH", str(own_python))
    trial_keys = {"pythonPath": "../env"} if how == "key" else {}
    config = write_experiment(tmp_path / "project", IMPORTS, **trial_keys)

    steps = make_steps(tmp_path, config, shell_of(own_python) if how == "shell" else None)
    trial = run_trial(steps)

    assert (steps.context.experiment.spec.warnings, trial.reason) == ((), "")
    assert output_of(steps, trial).strip() == f"there {own_python}"


@pytest.mark.parametrize(
    ("script", "warning"),
    [
        ("import only_there", "trial.py imports only_there, and "),
        ("from only_there.part import x, y", "trial.py imports only_there, and "),
        ("import nni, trial_helper, json", ""),
        ("try:\n    import only_there\nexcept ImportError:\n    pass", ""),
        ("import sys; sys.path.append('lib')\nimport only_there", ""),
        ("print 'as in Python 2'", "trial.py does not compile with "),
    ],
)
def test_what_the_trials_python_lacks_is_said_before_the_first_trial(
    tmp_path: Path, script: str, warning: str
) -> None:
    config = write_experiment(tmp_path / "project")
    (tmp_path / "project/trial.py").write_text(script)
    (tmp_path / "project/trial_helper.py").touch()
    settings = Settings(home=tmp_path / "home")

    spec = load_experiment(str(config), settings)

    assert [found[: len(warning)] for found in spec.warnings] == ([warning] if warning else [])
    python = describe_trial_python(spec, settings)
    assert python is not None
    assert str(Path(sys.executable).parent) in python.description
    assert "the worker's own" in python.description


def test_a_script_that_is_missing_is_said_before_the_first_trial(tmp_path: Path) -> None:
    config = write_experiment(tmp_path / "project", command="python3 src/train.py")
    (warning,) = load_experiment(str(config), Settings(home=tmp_path / "home")).warnings
    assert warning == f"the trial's command runs {tmp_path}/project/src/train.py, which does not exist"


def test_the_check_of_a_script_runs_none_of_it_and_sees_no_secret(
    tmp_path: Path, own_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "s3cr3t")
    (own_python / "bin/python3").write_text(f"#!/bin/sh\nenv > {tmp_path}/seen\nexec {sys.executable} \"$@\"\n")
    config = write_experiment(tmp_path / "project", f"open('{tmp_path}/ran', 'w')", pythonPath=str(own_python))

    load_experiment(str(config), Settings(home=tmp_path / "home"))

    assert "s3cr3t" not in (tmp_path / "seen").read_text()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("python3 a.py --config b.py", ("/code/a.py", "python3")),
        ("python -u ./a.py", ("/code/a.py", "python")),
        ("cd src && A=1 /opt/bin/python3.9 a.py", ("/code/src/a.py", "/opt/bin/python3.9")),
        ("echo begin; nohup env/bin/python a.py", ("/code/a.py", "/code/env/bin/python")),
        ("cd src\npython3 a.py", ("/code/src/a.py", "python3")),
        ("python3 \\\n  a.py", ("/code/a.py", "python3")),
        ("source activate x && python a.py", None),
        ("PYTHONPATH=lib python a.py", None),
        ("python -m pack.a", None),
        ("python -c 'import a' a.py", None),
        ("cd $HOME && python a.py", None),
        ("python $SCRIPT", None),
        ("bash run.sh", None),
        ("python 'unclosed", None),
    ],
)
def test_the_script_of_a_command_is_found_when_it_is_certain(command: str, found: tuple[str, str] | None) -> None:
    script = find_script(command, Path("/code"))
    assert (None if script is None else (str(script.path), script.python)) == found


def test_of_a_shell_its_path_and_its_active_environment_are_sent(own_python: Path) -> None:
    shell = {**shell_of(own_python), "CONDA_PREFIX": "/opt/conda", "AWS_SECRET_ACCESS_KEY": "s3cr3t", "HOME": "/root"}
    sent = sent_environment(shell)
    assert set(sent) == {"machine", "PATH", "VIRTUAL_ENV", "CONDA_PREFIX"}
    assert read_environment(sent) == {name: shell[name] for name in VARIABLES if name in shell}
    assert read_environment({**sent, "machine": "another"}) is None


@pytest.mark.parametrize(
    ("module", "is_active", "origin"),
    [
        ("only_there", False, "of the shell"),
        ("pytest", False, "the worker's own"),  # nnictl was called by its path, without its environment.
        ("pytest", True, "of the shell"),
        ("nowhere_at_all", False, "of the shell"),
    ],
)
def test_the_python_of_the_shell_counts_unless_only_that_of_nnictl_has_what_is_imported(
    tmp_path: Path, own_python: Path, monkeypatch: pytest.MonkeyPatch, module: str, is_active: bool, origin: str
) -> None:
    (own_python / "bin/python3").write_text(f'#!/bin/sh\nPYTHONPATH="{own_python}/lib" exec {sys.executable} -S "$@"\n')
    monkeypatch.setenv("PATH", f"{own_python}/bin:/usr/bin:/bin")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    monkeypatch.setenv("TRIALFLOW_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    if is_active:
        monkeypatch.setenv("VIRTUAL_ENV", str(own_python))

    loaded = load_in_shell(write_experiment(tmp_path / "project", f"import {module}"))

    get_settings.cache_clear()
    assert f"{origin}" in loaded.python
    assert (loaded.environment is None) is (origin == "the worker's own")


@pytest.mark.parametrize(
    "hostile",
    ["text", [], {"LD_PRELOAD": "/x.so"}, {"PATH": 1}, {"PATH": "/a\n/b"}, {"PATH": "/a\0"}, {"VIRTUAL_ENV": "env"},
     {"PATH": "/a" * 20_000}, {"CONDA_PREFIX": "../x"}],
)  # fmt: skip
def test_variables_from_outside_are_checked(tmp_path: Path, hostile: Any) -> None:
    with pytest.raises(ConfigError, match="environment"):
        load_experiment(str(write_experiment(tmp_path)), Settings(home=tmp_path / "home"), environment=hostile)


def test_a_relative_folder_on_the_path_is_left_out() -> None:
    assert read_environment({"machine": machine_id(), "PATH": ".:/a::bin:/b"}) == {"PATH": "/a:/b"}


def test_a_python_path_without_a_python_is_refused(tmp_path: Path) -> None:
    config = write_experiment(tmp_path / "project", pythonPath=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"trial\.pythonPath: has no python3"):
        load_experiment(str(config), Settings(home=tmp_path / "home"))


# ── GPUs left out or none ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("trial", "seen"), [({}, "3"), ({"gpuNum": 0}, "")], ids=["left out", "none"]
)
def test_without_a_number_of_gpus_a_trial_sees_what_the_worker_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: dict[str, Any], seen: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    script = "import os; print(repr(os.environ.get('CUDA_VISIBLE_DEVICES')))"
    steps = make_steps(tmp_path, write_experiment(tmp_path / "project", script, **trial))
    assert output_of(steps, run_trial(steps)).strip() == repr(seen)


def test_why_a_trial_failed_stands_in_its_reason(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, write_experiment(tmp_path / "project", "print('said'); nni.choice(1, name='x')"))
    trial = run_trial(steps)
    assert trial.status is TrialStatus.FAILED
    assert "Error" in trial.reason.splitlines()[-1]
    assert "said" in output_of(steps, trial)
