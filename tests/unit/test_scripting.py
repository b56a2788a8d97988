"""Scripts and notebooks that were written for NNI's Python interface, against a small API server of the tests' own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from trialflow.cli.client import ApiError
from trialflow.errors import ConfigError
from trialflow.scripting.experiment import (
    AlgorithmConfig,
    CustomAlgorithmConfig,
    Experiment,
    ExperimentConfig,
    K8sNfsConfig,
    KubeflowConfig,
    KubeflowRoleConfig,
    LocalConfig,
    RemoteMachineConfig,
    RunMode,
    TrialMetricData,
    TrialResult,
    experiment,
)
from trialflow.sdk import SDK_FOLDER

from .cli_lab import FakeAirflow, airflow, config, logged_in

__all__ = ["airflow", "config", "logged_in"]  # Fixtures.
SPACE = {"lr": {"_type": "loguniform", "_value": [0.0001, 0.1]}}
INCLUDE = SDK_FOLDER.parents[1]


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "model.py").write_text("import nni")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, "_LOOK_SECONDS", 0.01)


def make_experiment() -> Experiment:
    made = Experiment("local")
    assert made.config is not None
    made.config.trial_command = "python model.py"
    made.config.trial_code_directory = Path("trials")
    made.config.search_space = SPACE
    made.config.tuner.name = "TPE"
    made.config.tuner.class_args["optimize_mode"] = "maximize"
    made.config.max_trial_number = 10
    made.config.trial_concurrency = 2
    made.config.max_experiment_duration = "1h"
    return made


def posted(server: FakeAirflow) -> list[str]:
    return [path.partition("?")[0] for method, path, _ in server.asked if method == "POST"]


# ── configuration ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_configuration_is_a_file_of_the_v2_format_with_absolute_paths(tmp_path: Path) -> None:
    made = make_experiment().config
    assert made is not None
    assert made.document() == {
        "experimentName": tmp_path.name,
        "trialCommand": "python model.py",
        "trialCodeDirectory": f"{tmp_path}/trials",
        "searchSpace": SPACE,
        "tuner": {"name": "TPE", "classArgs": {"optimize_mode": "maximize"}},
        "maxTrialNumber": 10,
        "trialConcurrency": 2,
        "maxExperimentDuration": "1h",
        "trainingService": {"platform": "local"},
    }
    made.validate()


def test_a_configuration_says_what_is_wrong_with_it() -> None:
    made = make_experiment().config
    assert made is not None
    made.trial_concurrency, made.tuner.name = 0, "Tpe2"
    with pytest.raises(ConfigError) as caught:
        made.validate()
    assert ("trialConcurrency" in str(caught.value), "Tpe2" in str(caught.value)) == (True, True)


@pytest.mark.parametrize(
    ("section", "name", "hint"),
    [
        ("", "trial_concurency", "ExperimentConfig has no attribute 'trial_concurency'; did you mean trial_co"),
        ("", "trialConcurrency", "did you mean trial_concurrency"),
        ("training_service", "use_active_gpus", "LocalConfig has no attribute 'use_active_gpus'; did you mean use_ac"),
        ("tuner", "qqq", "AlgorithmConfig has no attribute 'qqq'; there is: class_args, class_name"),
    ],
)
def test_an_attribute_that_there_is_not_is_refused_with_those_that_are_near(section: str, name: str, hint: str) -> None:
    part: Any = make_experiment().config
    part = getattr(part, section) if section else part
    with pytest.raises(AttributeError) as caught:
        setattr(part, name, 1)
    assert hint in str(caught.value)
    with pytest.raises(AttributeError, match="has no attribute"):
        getattr(part, name)
    with pytest.raises(AttributeError, match="has no attribute"):
        type(part)(**{name.replace("trialC", "tria_lCx"): 1})


def test_sections_are_made_from_arguments_mappings_and_files_in_any_spelling(tmp_path: Path) -> None:
    by_arguments = ExperimentConfig(
        search_space=SPACE, tuner=AlgorithmConfig(name="TPE"), training_service=LocalConfig(use_active_gpu=True),
        trial_command="x", trial_concurrency=1,
    )  # fmt: skip
    body = {"searchSpace": SPACE, "tuner": {"name": "TPE"}, "trial_command": "x", "trialconcurrency": 1,
            "trainingService": {"platform": "local", "useActiveGpu": True}}  # fmt: skip
    (tmp_path / "file.yml").write_text(json.dumps(body))
    by_file = ExperimentConfig.load(tmp_path / "file.yml")
    assert by_arguments.json() == ExperimentConfig(**body).json() == by_file.json()
    assert isinstance(by_file.training_service, LocalConfig)
    by_file.assessor = {"name": "Medianstop", "class_args": {"start_step": 1}}
    assert by_file.assessor.class_args["start_step"] == 1


def test_relative_paths_of_a_file_start_beside_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file.yml").write_text("{searchSpaceFile: ../space.json, trialCodeDirectory: ~/code}")
    document = ExperimentConfig.load(tmp_path / "deep" / "file.yml").document()
    assert (document["searchSpaceFile"], document["trialCodeDirectory"]) == (f"{tmp_path}/space.json", "~/code")


def test_class_arguments_and_search_spaces_are_the_user_s_own_and_no_paths() -> None:
    own = {"codeDirectory": "x", "lr": {"searchSpaceFile": "y"}}
    made = ExperimentConfig("local", search_space=own, tuner=CustomAlgorithmConfig(class_name="a.B", class_args=own))
    document = made.document()
    assert (document["searchSpace"], document["tuner"]["classArgs"]) == (own, own)
    assert document["tuner"]["codeDirectory"] == str(Path.cwd())


def test_a_kubeflow_experiment_is_written_with_its_roles_and_storage() -> None:
    service = KubeflowConfig(operator="pytorch-operator", api_version="v1")
    service.storage = K8sNfsConfig(server="10.0.0.1", path="/nni")
    service.master = KubeflowRoleConfig(replicas=1, command="python m.py", cpu_number=1, memory_size="1gb")
    service.worker = {"replicas": 2, "command": "x", "cpu_number": 1, "memory_size": 100}
    assert isinstance(service.worker, KubeflowRoleConfig)
    written = service.json()
    assert written["storage"] == {"storageType": "nfs", "server": "10.0.0.1", "path": "/nni"}
    assert written["worker"] == {"replicas": 2, "command": "x", "cpuNumber": 1, "memorySize": 100}


@pytest.mark.parametrize("platform", ["remote", "kubeflow", "frameworkcontroller", "openpai", "aml", "dlc"])
def test_every_platform_of_nni_is_known(platform: str) -> None:
    made = Experiment(platform).config
    assert made is not None
    assert made.training_service.platform == platform
    if platform == "remote":
        made.training_service.machine_list = [RemoteMachineConfig(host="h", user="u")]
        assert made.json()["trainingService"]["machineList"] == [{"host": "h", "user": "u"}]


def test_what_is_no_platform_and_no_configuration_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training_service\.platform: must be a platform of NNI's; got 'moon'"):
        Experiment("moon")
    with pytest.raises(TypeError, match=r"name a tuner in config\.tuner"):
        Experiment(object())  # type: ignore[arg-type]


# ── running ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_sends_the_experiment_shows_each_change_once_and_tells_how_it_ended(
    logged_in: FakeAirflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logged_in.known, logged_in.statuses = False, ["RUNNING"] * 6
    logged_in.profile_extras = {"best": {"value": 0.25}, "warnings": ["a key has no effect"]}
    made = make_experiment()

    assert made.run(8080) is True

    assert (made.id, made.port) == ("newaaaaa", 8080)
    lines = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        f"starting, see {logged_in.url}/dags/nni_experiment/runs/run 1",
        "warning: a key has no effect",
        "RUNNING; 3 of 9 trials: 3 SUCCEEDED; best 0.25",
        "DONE; 3 of 9 trials: 3 SUCCEEDED; best 0.25",
    ]
    (archive,) = [body for method, path, body in logged_in.asked if (method, path[:8]) == ("POST", "/uploads") and
                  path != "/uploads/known"]  # fmt: skip
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        names = files.namelist()
        (file,) = [name for name in names if name.endswith("config.json")]
        written = json.loads(files.read(file))
    assert any(name.endswith("trials/model.py") for name in names)
    assert written["tuner"] == {"name": "TPE", "classArgs": {"optimize_mode": "maximize"}}
    assert "/newaaaaa/stop" not in "".join(posted(logged_in))


@pytest.mark.parametrize(("status", "expected"), [("DONE", True), ("STOPPED", True), ("ERROR", False)])
def test_the_end_tells_whether_it_went_well(logged_in: FakeAirflow, status: str, expected: bool) -> None:
    logged_in.statuses = ["RUNNING", status]
    assert make_experiment().run(8080, wait_completion=True, debug=True) is expected


def test_ctrl_c_stops_the_experiment(logged_in: FakeAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_experiment()
    logged_in.check_status.append("RUNNING")

    def interrupt() -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(made, "_look", interrupt)
    assert made.run(8080) is None
    assert posted(logged_in)[-1] == "/experiments/newaaaaa/stop"


def test_a_server_that_is_away_for_a_while_is_waited_for(
    logged_in: FakeAirflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Experiment(None, "abcd1111")
    answers: list[Any] = [ApiError("no answer"), ApiError("expired", 401), ("DONE", "DONE")]

    def look() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(made, "_look", look)
    assert made._wait() is True
    assert "waits for the server: no answer" in capsys.readouterr().out
    answers[:] = [ApiError("you may not", 403)]
    with pytest.raises(ApiError, match="you may not"):
        made._wait()


def test_an_experiment_that_cannot_start_says_why(logged_in: FakeAirflow) -> None:
    logged_in.run_state, logged_in.check_status = "failed", []
    with pytest.raises(ApiError, match="did not start:\n1 problem in the experiment"):
        make_experiment().start(8080, run_mode=RunMode.Detach)


def test_before_its_start_an_experiment_is_told_to_be_started(logged_in: FakeAirflow) -> None:
    with pytest.raises(RuntimeError, match="Experiment is not running"):
        make_experiment().get_status()


# ── looking and changing ─────────────────────────────────────────────────────────────────────────────────────────


def test_trials_metrics_and_results_come_as_nni_gives_them(logged_in: FakeAirflow) -> None:
    metric = {"timestamp": 1, "trialJobId": "T0001", "parameterId": "1", "type": "FINAL", "sequence": 0,
              "data": json.dumps(json.dumps({"default": 0.5}))}  # fmt: skip
    parameters = json.dumps({"parameter_id": 1, "parameter_source": "algorithm", "parameters": {"lr": 0.1},
                             "parameter_index": 0})  # fmt: skip
    trial = {"id": "T0001", "trialJobId": "T0001", "status": "SUCCEEDED", "startTime": 5, "sequenceId": 1,
             "hyperParameters": [parameters], "finalMetricData": [metric], "value": 0.5, "attempt": 1}  # fmt: skip
    logged_in.trials, logged_in.metrics = [trial, trial], [metric, {**metric, "trialJobId": "T0002"}]
    made = Experiment(None, "abcd1111")

    job = made.get_trial_job("T0001")
    assert (job, job.hyperParameters[0].parameters) == (made.list_trial_jobs()[0], {"lr": 0.1})
    assert (job.finalMetricData[0].data, job.endTime, job.message) == ({"default": 0.5}, -1, "--")
    assert {name: [item.data for item in items] for name, items in made.get_job_metrics().items()} == {
        "T0001": [{"default": 0.5}], "T0002": [{"default": 0.5}]
    }  # fmt: skip
    assert isinstance(made.get_job_metrics("T0001")["T0001"][0], TrialMetricData)
    assert made.export_data() == [TrialResult({"lr": 0.1, "n": {"_name": "a"}}, 0.5, "T0001")]
    assert made.get_job_statistics() == [{"trialJobStatus": "SUCCEEDED", "trialJobNumber": 3}]
    assert made.get_experiment_profile()["id"] == "abcd1111"
    assert [item["id"] for item in made.get_all_experiments_metadata()] == ["abcd1111", "abcd2222", "zzzz3333"]
    assert (made.get_experiment_metadata("abcd2222")["status"], made.get_experiment_metadata("none")) == ("DONE", {})


@pytest.mark.parametrize(
    ("change", "value", "kind", "key"),
    [
        ("update_trial_concurrency", 3, "TRIAL_CONCURRENCY", "trialConcurrency"),
        ("update_max_experiment_duration", "2h", "MAX_EXEC_DURATION", "maxExperimentDuration"),
        ("update_max_trial_number", 30, "MAX_TRIAL_NUM", "maxTrialNumber"),
        ("update_search_space", SPACE, "SEARCH_SPACE", "searchSpace"),
    ],
)
def test_a_change_is_sent(logged_in: FakeAirflow, change: str, value: Any, kind: str, key: str) -> None:
    getattr(Experiment(None, "abcd1111"), change)(value)
    path = f"/experiments/abcd1111/experiment?update_type={kind}"
    assert logged_in.asked == [("PUT", path, {"params": {key: value}})]


def test_a_trial_is_killed(logged_in: FakeAirflow) -> None:
    Experiment(None, "abcd1111").kill_trial_job("T0001")
    assert logged_in.asked == [("DELETE", "/experiments/abcd1111/trial-jobs/T0001", None)]


def test_an_experiment_is_resumed_in_the_forms_of_nni_2_and_3(logged_in: FakeAirflow) -> None:
    logged_in.check_status = ["RUNNING"]
    assert Experiment(None, id="abcd2222").resume(8080) is True
    logged_in.check_status = ["RUNNING", "DONE"]
    resumed = Experiment.resume("abcd2222", 8080, wait_completion=False)  # type: ignore[arg-type]
    assert resumed.id == "abcd2222"
    resumed.stop()
    assert posted(logged_in) == ["/experiments/abcd2222/resume"] * 2
    logged_in.check_status = ["RUNNING"]
    assert Experiment(None, id="abcd2222").run_or_resume(8080) is True
    assert posted(logged_in) == ["/experiments/abcd2222/resume"] * 3


def test_the_experiment_that_runs_is_connected_to_and_stopped(logged_in: FakeAirflow) -> None:
    connected = Experiment.connect(8080)
    assert (connected.id, connected.port) == ("abcd1111", 8080)
    assert Experiment.connect("zzzz3333").id == "zzzz3333"
    logged_in.check_status = ["RUNNING"]
    connected.stop()
    assert posted(logged_in) == ["/experiments/abcd1111/stop"]
    logged_in.experiments[1]["status"] = "RUNNING"
    with pytest.raises(ApiError, match="not exactly one that runs"):
        Experiment.connect(8080)
    for item in logged_in.experiments:
        item["status"] = "DONE"
    assert Experiment.connect(8080).id == "abcd1111"


def test_an_experiment_that_is_viewed_is_left_as_it_is(
    logged_in: FakeAirflow, capsys: pytest.CaptureFixture[str]
) -> None:
    logged_in.profile_extras = {"dagId": "nni_experiment"}
    viewed = Experiment.view("abcd2222", 8080, non_blocking=True)  # type: ignore[arg-type]
    assert viewed.id == "abcd2222"
    assert f"see {logged_in.url}/dags/nni_experiment/runs" in capsys.readouterr().out
    assert posted(logged_in) == []


# ── the module nni ───────────────────────────────────────────────────────────────────────────────────────────────

SCRIPT = """
from nni.experiment import Experiment
search_space = {"lr": {"_type": "loguniform", "_value": [0.0001, 0.1]}}
experiment = Experiment("local")
experiment.config.trial_command = "python model.py"
experiment.config.trial_code_directory = "trials"
experiment.config.search_space = search_space
experiment.config.tuner.name = "TPE"
experiment.config.max_trial_number = 10
experiment.config.trial_concurrency = 2
print(experiment.run(8080, wait_completion=WAIT))
"""


def run_python(code: str, folder: Path, *path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=clean, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("wait", [True, False])
def test_a_script_written_for_nni_runs_unchanged_and_leaves_nothing_running(
    logged_in: FakeAirflow, tmp_path: Path, wait: bool
) -> None:
    logged_in.check_status.append("RUNNING")
    done = run_python(SCRIPT.replace("WAIT", str(wait)), tmp_path, INCLUDE)
    assert (done.returncode, done.stdout.splitlines()[-1 if wait else 1]) == (0, str(True if wait else None)), done
    assert ("/experiments/newaaaaa/stop" in posted(logged_in)) is not wait


def test_an_installed_nni_is_what_is_imported(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "nni.py").write_bytes((INCLUDE / "nni.py").read_bytes())
    code = "import nni; print(nni.__version__)"
    assert run_python(code, tmp_path, site, INCLUDE).stdout == "3.0+trialflow\n"
    (site / "nni").mkdir()
    (site / "nni" / "__init__.py").write_text("__version__ = 'real'\n")
    assert run_python(code, tmp_path, site, INCLUDE).stdout == "real\n"


def test_a_trial_has_its_own_nni_and_no_experiments_to_start(tmp_path: Path) -> None:
    done = run_python("import nni; print(nni.__version__); import nni.experiment", tmp_path, SDK_FOLDER, INCLUDE)
    assert done.stdout == "3.0+trialflow\n"
    assert "nni.experiment starts experiments, where Trialflow is installed; no trial has it" in done.stderr


def test_what_is_imported_for_a_trial_loads_nothing_of_trialflow_s(tmp_path: Path) -> None:
    code = "import sys, nni; nni.get_next_parameter(); print(sorted(n for n in sys.modules if n[:9] == 'trialflow'))"
    assert run_python(code, tmp_path, SDK_FOLDER).stdout == "[]\n"
    assert run_python(code, tmp_path, INCLUDE).stdout == "['trialflow', 'trialflow.sdk']\n"
