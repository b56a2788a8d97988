"""The v2 format: read into what v1 gives for the same experiment, every mistake placed on the key that was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from trialflow.config import AllowedRoots, ParsedExperiment, parse_experiment, read_source
from trialflow.errors import ConfigError
from trialflow.experiment.loading.load import load_experiment
from trialflow.messages import Problem
from trialflow.records import AlgorithmSpec, ExperimentSpec, JsonObject
from trialflow.settings import Settings

SPACE = {"x": {"_type": "uniform", "_value": [0, 1]}}
LOCAL = """\
experimentName: example
searchSpaceFile: space.json
trialCommand: python3 main.py
trialCodeDirectory: code
trialGpuNumber: 0
trialConcurrency: 2
maxExperimentDuration: 90m
maxTrialNumber: 5
tuner:
  name: TPE
  classArgs:
    optimize_mode: minimize
trainingService:
  platform: local
"""
KUBEFLOW = """\
experimentName: example
searchSpaceFile: space.json
trialCodeDirectory: code
trialConcurrency: 1
tuner:
  name: TPE
trainingService:
  platform: kubeflow
  operator: tf-operator
  apiVersion: v1
  namespace: tuning
  storage:
    storageType: nfs
    server: 10.0.0.1
    path: /data
  worker:
    replicas: 2
    command: python3 main.py
    cpuNumber: 1
    memorySize: 8gb
    codeDirectory: code
  ps:
    replicas: 1
    command: python3 main.py
    gpuNumber: 1
    cpuNumber: 2
    memorySize: 2048
    dockerImage: img:1
    codeDirectory: code
"""
REMOTE = """\
experimentName: example
searchSpaceFile: space.json
trialCommand: python3 main.py
trialCodeDirectory: code
trialConcurrency: 1
tuner:
  name: TPE
trainingService:
  platform: remote
  reuseMode: true
  machineList:
    - host: 10.0.0.1
      user: alice
      password: hunter2
    - host: 10.0.0.2
      port: 2222
      user: bob
      sshKeyFile: ~/.ssh/id_rsa
      sshPassphrase: hunter3
      useActiveGpu: true
      maxTrialNumberPerGpu: 2
      gpuIndices: [0, 1]
      pythonPath: /opt/python/bin
      preCommand: module load cuda
"""
FRAMEWORKCONTROLLER = """\
experimentName: example
searchSpaceFile: space.json
trialCodeDirectory: code
trialConcurrency: 1
tuner:
  name: TPE
trainingService:
  platform: frameworkcontroller
  serviceAccountName: frameworkcontroller
  namespace: tuning
  storage:
    storageType: azureStorage
    azureAccount: account
    azureShare: share
    keyVaultName: vault
    keyVaultKey: key
  taskRoles:
    - name: worker
      dockerImage: img:1
      taskNumber: 1
      command: python3 main.py
      gpuNumber: 0
      cpuNumber: 1
      memorySize: 512mb
      frameworkAttemptCompletionPolicy:
        minFailedTaskCount: 1
        minSucceedTaskCount: 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with everything that the files name."""
    folder = tmp_path / "project"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "main.py").touch()
    (folder / "space.json").write_text(json.dumps(SPACE))
    return folder


def changed(text: str = LOCAL, **changes: Any) -> JsonObject:
    """A file with other values; ``a__b`` is the key b in the section a, and a value of ``...`` removes it."""
    config = yaml.safe_load(text)
    for path, value in changes.items():
        *sections, key = path.split("__")
        target = config
        for section in sections:
            target = target.setdefault(section, {})
        target[key] = value
        if value is ...:
            del target[key]
    assert isinstance(config, dict)
    return config


def write(folder: Path, config: str | JsonObject) -> Path:
    path = folder / "config.yml"
    path.write_text(config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False))
    return path


def load(folder: Path, config: str | JsonObject) -> ExperimentSpec:
    return load_experiment(str(write(folder, config)), Settings(home=folder / "home", allowed_roots=()))


def parse(folder: Path, config: str | JsonObject) -> ParsedExperiment:
    """What the format alone says, whether the platform can run or not."""
    return parse_experiment(read_source(write(folder, config)), AllowedRoots.of((), folder))


def problem_of(folder: Path, config: str | JsonObject) -> Problem:
    problems = parse(folder, config).problems
    assert len(problems) == 1, [str(problem) for problem in problems]
    assert problems[0].remedy
    return problems[0]


def test_every_key_is_read_into_the_specification(folder: Path) -> None:
    config = changed(
        authorName="someone",
        description="what it is",
        maxTrialDuration="0.5h",
        maxFailedTrialNumber=3,
        goal=0.98,
        debug=True,
        logLevel="debug",
        useAnnotation=False,
        tuner__includeIntermediateResults=True,
        assessor={"name": "Medianstop", "classArgs": {"start_step": 3}},
    )

    assert load(folder, config) == ExperimentSpec(
        name="example",
        author="someone",
        description="what it is",
        trial_concurrency=2,
        max_trial_number=5,
        max_duration_seconds=5400.0,
        max_trial_duration_seconds=1800.0,
        max_failed_trial_number=3,
        goal=0.98,
        platform="local",
        search_space=SPACE,
        tuner=AlgorithmSpec("TPE", {"optimize_mode": "minimize"}, include_intermediate_results=True),
        assessor=AlgorithmSpec("Medianstop", {"start_step": 3}),
        code_directory=str(folder / "code"),
        code_root="/",
        training={"command": "python3 main.py", "gpuNum": 0},
    )


@pytest.mark.parametrize("nothing", [..., None], ids=["left out", "null"])
def test_what_may_be_left_out_has_the_defaults_of_nni(folder: Path, nothing: Any) -> None:
    (folder / "main.py").touch()
    optional = ("experimentName", "trialCodeDirectory", "trialGpuNumber", "maxExperimentDuration", "maxTrialNumber")

    spec = load(folder, changed(**dict.fromkeys(optional, nothing)))

    assert spec.name == "project"
    assert spec.author == "default"
    assert Path(spec.code_directory).samefile(folder)
    assert (spec.max_duration_seconds, spec.max_trial_number) == (999 * 86400, 99999)
    assert spec.training == {"command": "python3 main.py"}
    assert spec.warnings == ()


@pytest.mark.parametrize("name", [..., None, ""])
def test_an_experiment_without_a_name_and_a_folder_has_a_name_still(folder: Path, name: Any) -> None:
    config = changed(
        experimentName=name, searchSpaceFile=..., searchSpace=SPACE, trialCodeDirectory=str(folder / "code")
    )

    assert load_experiment(config, Settings(home=folder, allowed_roots=(folder,))).name == "experiment"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("30s", 30), ("90M", 5400), ("0.5h", 1800), ("3 d", 259200), (60, 60), ("1.5s", 2), (".5m", 30)],
)
def test_durations_have_a_unit_or_are_seconds(folder: Path, written: Any, seconds: float) -> None:
    spec = load(folder, changed(maxExperimentDuration=written, maxTrialDuration=written))

    assert (spec.max_duration_seconds, spec.max_trial_duration_seconds) == (seconds, seconds)


def test_a_number_of_trials_has_no_upper_limit(folder: Path) -> None:
    assert load(folder, changed(maxTrialNumber=10**6)).max_trial_number == 10**6


def test_a_search_space_may_stand_in_the_file(folder: Path) -> None:
    assert load(folder, changed(searchSpaceFile=..., searchSpace=SPACE)).search_space == SPACE


def test_of_two_search_spaces_the_file_counts(folder: Path) -> None:
    spec = load(folder, changed(searchSpace={"y": {"_type": "choice", "_value": [1]}}))

    assert spec.search_space == SPACE
    assert spec.warnings == ("searchSpace has no effect: searchSpaceFile counts, as in NNI",)


def test_keys_may_be_spelled_as_nni_allows(folder: Path) -> None:
    text = LOCAL.replace("trialCommand", "trial_command").replace("trialConcurrency", "TRIALCONCURRENCY")
    text = text.replace("trainingService", "training_service").replace("classArgs", "class_args")

    assert load(folder, text) == load(folder, LOCAL)
    assert load(folder, changed(searchSpaceFile=..., searchSpace={"Goal": SPACE["x"]})).search_space == {
        "Goal": SPACE["x"]
    }


def test_a_problem_is_placed_on_the_line_of_a_key_however_it_is_spelled(folder: Path) -> None:
    problem = problem_of(folder, LOCAL.replace("trialConcurrency: 2", "trial_concurrency: 0"))

    assert (problem.field, problem.line) == ("trialConcurrency", 6)


def test_what_stands_in_the_training_service_counts_before_what_stands_above(folder: Path) -> None:
    service = {"platform": "local", "trialCommand": "inner", "trialGpuNumber": 0, "trialCodeDirectory": "."}

    spec = load(folder, changed(trainingService=service))

    assert spec.training == {"command": "inner", "gpuNum": 0}
    assert Path(spec.code_directory).samefile(folder)


@pytest.mark.parametrize(
    ("written", "name"),
    [("tpe", "TPE"), ("random", "Random"), ("TPE", "TPE")],
)
def test_names_of_algorithms_have_no_case(folder: Path, written: str, name: str) -> None:
    assert load(folder, changed(tuner={"name": written})).tuner == AlgorithmSpec(name)


@pytest.mark.parametrize(
    ("written", "name"),
    [("Batch", "BatchTuner"), ("gridsearch", "GridSearch"), ("Metis", "MetisTuner"), ("GPTuner", "GPTuner"),
     ("smac", "SMAC"), ("evolution", "Evolution"), ("Anneal", "Anneal"), ("mine", "mine")],
)  # fmt: skip
def test_names_of_algorithms_become_those_of_v1(folder: Path, written: str, name: str) -> None:
    parsed = parse(folder, changed(tuner={"name": written}))

    assert parsed.tuner == AlgorithmSpec(name)
    place = parsed.problem_at(("tuner", "builtinTunerName"), "rule")
    assert (place.field, place.line) == ("tuner.name", 10)


@pytest.mark.parametrize("section", ["advisor", "tuner"])
def test_an_advisor_is_recognised_also_where_nni_3_wants_it(folder: Path, section: str) -> None:
    config = changed(tuner=..., tunerGpuIndices="0")
    config[section] = {"name": "bohb", "classArgs": {"optimize_mode": "maximize"}}

    assert load(folder, config).tuner == AlgorithmSpec("BOHB", {"optimize_mode": "maximize"})


def test_a_kubeflow_file_gives_what_the_same_file_gives_in_v1(folder: Path) -> None:
    v1 = {
        "authorName": "default",
        "experimentName": "example",
        "trialConcurrency": 1,
        "searchSpacePath": "space.json",
        "trainingServicePlatform": "kubeflow",
        "tuner": {"builtinTunerName": "TPE"},
        "trial": {
            "codeDir": "code",
            "worker": {"replicas": 2, "command": "python3 main.py", "gpuNum": 0, "cpuNum": 1, "memoryMB": 8192,
                       "image": "msranni/nni:latest"},
            "ps": {"replicas": 1, "command": "python3 main.py", "gpuNum": 1, "cpuNum": 2, "memoryMB": 2048,
                   "image": "img:1"},
        },
        "kubeflowConfig": {"operator": "tf-operator", "apiVersion": "v1", "namespace": "tuning",
                           "nfs": {"server": "10.0.0.1", "path": "/data"}},
    }  # fmt: skip
    expected = parse(folder, v1).spec
    assert expected is not None

    parsed = parse(folder, KUBEFLOW)

    assert parsed.problems == []
    assert parsed.spec is not None
    assert parsed.spec.training == expected.training
    assert parsed.spec.warnings == ()


def test_a_role_with_code_of_its_own_gets_a_warning(folder: Path) -> None:
    parsed = parse(folder, changed(KUBEFLOW, trainingService__worker__codeDirectory="other", trialCommand="x"))

    assert parsed.spec is not None
    assert parsed.spec.warnings == (
        "trainingService.worker.codeDirectory has no effect: every role runs the code of trialCodeDirectory, as in NNI",
        "trialCommand has no effect: each role has a command of its own",
    )


@pytest.mark.parametrize("secret", ["hunter2", "hunter3"])
def test_a_secret_of_the_wrong_type_is_not_shown(folder: Path, secret: str) -> None:
    (problem,) = parse(folder, REMOTE.replace(secret, "12345678")).problems

    assert problem.rule == "must be text"
    assert "12345678" not in str(problem)


def test_a_remote_file_is_parsed_whole(folder: Path) -> None:
    parsed = parse(folder, REMOTE)

    assert parsed.problems == []
    assert parsed.spec is not None
    assert parsed.spec.training == {
        "command": "python3 main.py",
        "remoteConfig": {"reuse": True},
        "machineList": [
            {"ip": "10.0.0.1", "username": "alice", "passwd": "hunter2"},
            {
                "ip": "10.0.0.2",
                "port": 2222,
                "username": "bob",
                "sshKeyPath": "~/.ssh/id_rsa",
                "passphrase": "hunter3",
                "pythonPath": "/opt/python/bin",
                "preCommand": "module load cuda",
                "gpuIndices": "0,1",
                "maxTrialNumPerGpu": 2,
                "useActiveGpu": True,
            },
        ],
    }
    assert parsed.spec.warnings == ("trainingService.reuseMode has no effect: each trial is a job of its own",)


def test_a_frameworkcontroller_file_is_parsed_whole(folder: Path) -> None:
    parsed = parse(folder, FRAMEWORKCONTROLLER)

    assert parsed.problems == []
    assert parsed.spec is not None
    (role,) = parsed.spec.training["taskRoles"]
    assert (role["taskNum"], role["memoryMB"], role["image"]) == (1, 512, "img:1")
    assert role["frameworkAttemptCompletionPolicy"] == {"minFailedTaskCount": 1, "minSucceededTaskCount": 2}
    config = parsed.spec.training["frameworkcontrollerConfig"]
    assert config["keyVault"] == {"vaultName": "vault", "name": "key"}
    assert config["azureStorage"] == {"accountName": "account", "azureShare": "share"}
    assert (config["namespace"], config["serviceAccountName"]) == ("tuning", "frameworkcontroller")


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        (REMOTE, "remote"),
        (FRAMEWORKCONTROLLER, "frameworkcontroller"),
        (LOCAL.replace("local", "openpai"), "openpai"),
        (LOCAL.replace("local", "aml"), "aml"),
        (LOCAL.replace("local", "dlc"), "dlc"),
    ],
)
def test_a_platform_that_cannot_run_is_refused_by_name(folder: Path, text: str, platform: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(folder, text)

    (problem,) = raised.value.problems
    assert (problem.field, problem.value) == ("trainingService.platform", platform)
    assert problem.rule == "is understood, but trials cannot run there yet"
    assert problem.line == text.splitlines().index(f"  platform: {platform}") + 1
    assert "hunter" not in str(raised.value)


def test_several_training_services_are_refused_by_name(folder: Path) -> None:
    problem = problem_of(folder, changed(trainingService=[{"platform": "local"}, {"platform": "remote"}]))

    assert (problem.field, problem.line) == ("trainingService", 13)
    assert problem.rule.startswith("several training services for one experiment are understood")


# Each: a file, a change; the field, the start of the rule.
BAD: dict[str, tuple[str, JsonObject, str, str]] = {
    "concurrency missing": (LOCAL, {"trialConcurrency": ...}, "trialConcurrency", "is required"),
    "concurrency text": (LOCAL, {"trialConcurrency": "2"}, "trialConcurrency", "must be an integer"),
    "trials 0": (LOCAL, {"maxTrialNumber": 0}, "maxTrialNumber", "must be at least 1"),
    "duration 0": (LOCAL, {"maxExperimentDuration": "0h"}, "maxExperimentDuration", "must be a number greater"),
    "duration unit": (LOCAL, {"maxTrialDuration": "1w"}, "maxTrialDuration", "must be a number greater"),
    "duration true": (LOCAL, {"maxTrialDuration": True}, "maxTrialDuration", "must be a number greater"),
    "duration huge": (LOCAL, {"maxTrialDuration": "9" * 99 + "s"}, "maxTrialDuration", "must be a number greater"),
    "goal text": (LOCAL, {"goal": "high"}, "goal", "must be a number"),
    "goal infinite": (LOCAL, {"goal": float("inf")}, "goal", "must be finite"),
    "failures negative": (LOCAL, {"maxFailedTrialNumber": -1}, "maxFailedTrialNumber", "must be at least 0"),
    "command missing": (LOCAL, {"trialCommand": ...}, "trialCommand", "is required"),
    "command null": (LOCAL, {"trialCommand": None}, "trialCommand", "is required"),
    "inner command empty": (
        LOCAL,
        {"trialCommand": ..., "trainingService__trialCommand": ""},
        "trainingService.trialCommand",
        "must not be empty",
    ),
    "code missing": (LOCAL, {"trialCodeDirectory": "nowhere"}, "trialCodeDirectory", "no such folder"),
    "space missing": (LOCAL, {"searchSpaceFile": ...}, "searchSpaceFile", "is required"),
    "space file missing": (LOCAL, {"searchSpaceFile": "no.json"}, "searchSpaceFile", "no such file"),
    "space wrong": (
        LOCAL,
        {"searchSpaceFile": ..., "searchSpace": {"a.b": {"_type": "uniform", "_value": [1, 0]}}},
        "searchSpace.a.b._value",
        "uniform [low, high]: low must not",
    ),
    "space and annotations": (LOCAL, {"useAnnotation": True}, "searchSpaceFile", "and useAnnotation: true exclude"),
    "annotations text": (LOCAL, {"useAnnotation": "yes"}, "useAnnotation", "must be true or false"),
    "tuner missing": (LOCAL, {"tuner": ...}, "tuner", "is required"),
    "tuner null": (LOCAL, {"tuner": None}, "tuner", "is required"),
    "tuner text": (LOCAL, {"tuner": "TPE"}, "tuner", "must be a mapping"),
    "tuner unnamed": (LOCAL, {"tuner": {"classArgs": {}}}, "tuner.name", "is required"),
    "unknown key": (LOCAL, {"trialNumber": 3}, "trialNumber", "is not a key that NNI knows here"),
    "unknown key inside": (LOCAL, {"tuner__arguments": {}}, "tuner.arguments", "is not a key that NNI knows"),
    "platform missing": (LOCAL, {"trainingService": {}}, "trainingService.platform", "is required"),
    "platform unknown": (
        LOCAL,
        {"trainingService__platform": "slurm"},
        "trainingService.platform",
        "must be one of 'local', 'remote', 'openpai'",
    ),
    "local key unknown": (LOCAL, {"trainingService__gpus": 1}, "trainingService.gpus", "is not a key"),
    "gpus": (LOCAL, {"trialGpuNumber": -1}, "trialGpuNumber", "must be at least 0"),
    "shared storage": (
        LOCAL,
        {"sharedStorage": {"storageType": "NFS", "localMountPoint": "/a", "remoteMountPoint": "/b",
                           "localMounted": "nomount", "nfsServer": "h", "exportedDirectory": "/c"}},
        "sharedStorage",
        "is understood, but not built yet",
    ),
    "architecture search": (LOCAL, {"experimentType": "nas"}, "experimentType", "must be one of 'hpo'"),
    "placeholder": (LOCAL, {"trialCommand": {"your_command": None}}, "trialCommand", "still holds a placeholder"),
    "server placeholder": (
        KUBEFLOW,
        {"trainingService__storage__server": {"your_nfs_server_ip": None}},
        "trainingService.storage.server",
        "still holds a placeholder",
    ),
    "server missing": (KUBEFLOW, {"trainingService__storage__server": ...}, "trainingService.storage.server", "is req"),
    "storage missing": (KUBEFLOW, {"trainingService__storage": ...}, "trainingService.storage", "is required"),
    "memory": (KUBEFLOW, {"trainingService__ps__memorySize": "8Gi"}, "trainingService.ps.memorySize", "must be a"),
    "half a processor": (
        KUBEFLOW,
        {"trainingService__ps__cpuNumber": 0.5},
        "trainingService.ps.cpuNumber",
        "must be an integer",
    ),
    "role incomplete": (KUBEFLOW, {"trainingService__ps__command": ...}, "trainingService.ps.command", "is required"),
    "no role": (
        KUBEFLOW,
        {"trainingService__ps": ..., "trainingService__worker": ...},
        "trainingService",
        "needs at least one role",
    ),
    "machine without a host": (
        REMOTE,
        {"trainingService__machineList": [{"user": "u"}]},
        "trainingService.machineList.0.host",
        "is required",
    ),
    "no machines": (REMOTE, {"trainingService__machineList": ...}, "trainingService.machineList", "is required"),
    "empty machines": (REMOTE, {"trainingService__machineList": []}, "trainingService.machineList", "must have at le"),
    "policy incomplete": (
        FRAMEWORKCONTROLLER,
        {"trainingService__taskRoles": [
            yaml.safe_load(FRAMEWORKCONTROLLER)["trainingService"]["taskRoles"][0]
            | {"frameworkAttemptCompletionPolicy": {"minFailedTaskCount": 1}}
        ]},
        "trainingService.taskRoles.0.frameworkAttemptCompletionPolicy.minSucceedTaskCount",
        "is required",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "changes", "field", "rule"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_once_on_the_key_that_was_written(
    folder: Path, text: str, changes: JsonObject, field: str, rule: str
) -> None:
    config = changed(text, **changes)

    problem = problem_of(folder, config)

    assert problem.field == field
    assert problem.rule.startswith(rule)
    assert problem.file == str(folder / "config.yml")
    assert (problem.line is not None) == (field.partition(".")[0] in config)


def test_all_problems_are_listed_at_once(folder: Path) -> None:
    config = changed(KUBEFLOW, trialConcurrency=0, tuner__nam="TPE", trainingService__worker__replicas="two")
    config["trainingService"]["storage"]["storageType"] = "disk"

    assert sorted(problem.field for problem in parse(folder, config).problems) == [
        "trainingService.storage.storageType",
        "trainingService.worker.replicas",
        "trialConcurrency",
        "tuner.nam",
    ]


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"nniManagerIp": "10.0.0.1"}, "nniManagerIp has no effect: no trial talks to a manager"),
        ({"experimentWorkingDirectory": "~/x"}, "experimentWorkingDirectory has no effect: the experiment's folder"),
        ({"tunerGpuIndices": [0, 1]}, "tunerGpuIndices has no effect: tuners run in the worker, without a GPU"),
        (
            {"trainingService__useActiveGpu": False},
            "trainingService.useActiveGpu has no effect: the trials ask for no GPU",
        ),
        ({"trainingService__nniManagerIp": "h"}, "trainingService.nniManagerIp has no effect: no trial talks"),
    ],
)
def test_a_key_without_effect_is_accepted_with_a_warning(
    folder: Path, changes: JsonObject, warning: str
) -> None:
    (found,) = load(folder, changed(**changes)).warnings

    assert found.startswith(warning)


MIXED: dict[str, tuple[str | JsonObject, str, str]] = {
    "a v2 key in a v1 file": (
        {"authorName": "a", "experimentName": "e", "trainingServicePlatform": "local", "maxTrialNumber": 3,
         "searchSpacePath": "space.json", "trial": {"command": "c", "codeDir": "."}},
        "maxTrialNumber",
        "To keep to v1, write maxTrialNum for maxTrialNumber",
    ),
    "a v1 key in a v2 file": (
        LOCAL + "maxTrialNum: 3\n",
        "maxTrialNum",
        "To keep to v2, write maxTrialNumber for maxTrialNum",
    ),
    "v1's tuner in a v2 file": (
        LOCAL.replace("  name: TPE", "  builtinTunerName: TPE"),
        "tuner.builtinTunerName",
        "To keep to v2, write tuner.name for tuner.builtinTunerName",
    ),
    "both platforms": (
        LOCAL + "trainingServicePlatform: local\n",
        "trainingServicePlatform",
        "To keep to v2, write trainingService.platform for trainingServicePlatform",
    ),
    "a section": (LOCAL + "trial:\n  command: x\n", "trial", "To keep to v2, remove trial"),
}  # fmt: skip


@pytest.mark.parametrize(("config", "field", "remedy"), MIXED.values(), ids=MIXED)
def test_a_file_of_both_formats_gets_one_clear_sentence(
    folder: Path, config: str | JsonObject, field: str, remedy: str
) -> None:
    problem = problem_of(folder, config)

    assert problem.field == field
    assert problem.rule.startswith("a file is written in one of NNI's two formats, and this one has keys of v1 (")
    assert problem.remedy == remedy
