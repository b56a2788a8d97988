"""`nnictl convert`: nothing that counts is lost on the way from one format to the other and back."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

from trialflow.cli import app
from trialflow.config import AllowedRoots, Conversion, Format, ParsedExperiment, convert, parse_experiment, v1, v2
from trialflow.config.fields import OPAQUE
from trialflow.config.source import Source, parse_text
from trialflow.errors import ConfigError
from trialflow.records import ExperimentSpec, JsonObject

SPACE = {"x": {"_type": "uniform", "_value": [0, 1]}}
COMMON: JsonObject = {
    "authorName": "someone",
    "experimentName": "example",
    "description": "what it is",
    "trialConcurrency": 2,
    "maxExecDuration": "90m",
    "maxTrialNum": 5,
    "maxTrialDuration": "2h",
    "maxFailedTrialNum": 3,
    "goal": 0.5,
    "trainingServicePlatform": "local",
    "searchSpacePath": "space.json",
    "useAnnotation": False,
    "multiThread": True,
    "nniManagerIp": "10.0.0.1",
    "logDir": "/tmp/nni",
    "logLevel": "debug",
    "logCollection": "http",
    "debug": True,
    "versionCheck": True,
    "tuner": {
        "builtinTunerName": "TPE",
        "classArgs": {"optimize_mode": "minimize"},
        "includeIntermediateResults": True,
        "gpuIndices": "0,1",
        "gpuNum": 0,
    },
    "assessor": {"builtinAssessorName": "Medianstop", "classArgs": {"start_step": 2}, "gpuNum": 0},
    "trial": {"command": "python3 main.py", "codeDir": "code", "gpuNum": 0, "nasMode": "classic_mode"},
}
ROLE = {"command": "python3 main.py", "gpuNum": 1, "cpuNum": 2, "memoryMB": 1024, "image": "img:1",
        "privateRegistryAuthPath": "auth.json"}  # fmt: skip
NFS = {"storage": "nfs", "nfs": {"server": "10.0.0.1", "path": "/data"}}
AZURE = {
    "storage": "azureStorage",
    "keyVault": {"vaultName": "vault", "name": "key"},
    "azureStorage": {"accountName": "account", "azureShare": "share"},
    "uploadRetryCount": 3,
}
MACHINES = [
    {"ip": "10.0.0.1", "username": "u", "passwd": "secret"},
    {"ip": "m", "port": 2222, "username": "u", "sshKeyPath": "~/.ssh/id", "passphrase": "secret", "gpuIndices": "0,1",
     "maxTrialNumPerGpu": 2, "useActiveGpu": True, "pythonPath": "/opt/bin", "preCommand": "a"},
]  # fmt: skip
POLICY = {"minFailedTaskCount": 1, "minSucceededTaskCount": -1}
KUBEFLOW = {"operator": "pytorch-operator", "apiVersion": "v1", "namespace": "tuning", "reuse": True, **NFS}
CLAIM = {"operator": "tf-operator", "apiVersion": "v1", "serviceAccountName": "s", "storage": "pvc",
         "pvc": {"claim": "tuning", "path": "nni"}}  # fmt: skip
TEMPLATE = {"metadata": {"labels": {"name": "x"}, "annotations": {"a": "b"}}, "spec": {"replicas": {"command": 1}}}
SHARED = {"storageType": "NFS", "localMountPoint": "/a", "remoteMountPoint": "/b", "localMounted": "nomount",
          "nfsServer": "h", "exportedDirectory": "/c", "storageAccountName": "n", "storageAccountKey": "k",
          "containerName": "c"}  # fmt: skip
OWN = {"codeDir": "code", "classFileName": "sub/my.py", "className": "Mine", "classArgs": {"a": [1, {"b": None}]}}


def on(platform: str, **changes: Any) -> JsonObject:
    """COMMON on a platform; a value of ``...`` removes a key."""
    changes = {"trainingServicePlatform": platform, **changes}
    return {key: value for key, value in {**COMMON, **changes}.items() if value is not ...}


# Together they hold every key of the v1 schema that has a counterpart.
V1_FILES: dict[str, JsonObject] = {
    "every key that is shared": COMMON,
    "the least": {
        "authorName": "default",
        "experimentName": "example",
        "trialConcurrency": 1,
        "trainingServicePlatform": "local",
        "searchSpacePath": "space.json",
        "tuner": {"builtinTunerName": "Random"},
        "trial": {"command": "x", "codeDir": "code"},
    },
    "gpus": on("local", localConfig={"gpuIndices": "0", "maxTrialNumPerGpu": 2, "useActiveGpu": True},
               trial={"command": "x", "codeDir": "code", "gpuNum": 1, "useCodeCopy": True, "pythonPath": "/opt/env"}),
    "a search space inside": on("local", searchSpacePath=..., searchSpace={"trial_command": SPACE["x"]}),
    "annotations": on("local", searchSpacePath=..., useAnnotation=True),
    "an advisor": on("local", tuner=..., assessor=...,
                     advisor={"builtinAdvisorName": "BOHB", "classArgs": {"optimize_mode": "maximize"},
                              "gpuIndices": "0"}),
    "a class of the user's own": on("local", tuner=OWN, assessor=OWN),
    "shared storage": on("local", sharedStorage=SHARED),
    "remote": on("remote", machineList=MACHINES, remoteConfig={"reuse": True}),
    "kubeflow on nfs": on("kubeflow", kubeflowConfig=KUBEFLOW,
                          trial={"codeDir": "code", "master": {"replicas": 1, **ROLE},
                                 "worker": {"replicas": 2, **ROLE}}),
    "kubeflow on azure": on("kubeflow", kubeflowConfig={"operator": "tf-operator", "apiVersion": "v1beta2", **AZURE},
                            trial={"codeDir": "code", "ps": {"replicas": 1, **ROLE},
                                   "worker": {"replicas": 2, **ROLE}}),
    "kubeflow on a claim": on("kubeflow", kubeflowConfig=CLAIM,
                              trial={"codeDir": "code", "worker": {"replicas": 1, **ROLE, "podTemplate": TEMPLATE}}),
    "frameworkcontroller on nfs": on(
        "frameworkcontroller",
        frameworkcontrollerConfig={**NFS, "serviceAccountName": "s", "namespace": "n", "reuse": False},
        trial={"codeDir": "code", "taskRoles": [
            {"name": name, "taskNum": 1, "frameworkAttemptCompletionPolicy": POLICY, **ROLE} for name in ("a", "b")
        ]},
    ),
    "frameworkcontroller on azure": on(
        "frameworkcontroller",
        frameworkcontrollerConfig=AZURE,
        trial={"codeDir": "code", "taskRoles": [
            {"name": "a", "taskNum": 1, "frameworkAttemptCompletionPolicy": POLICY, **ROLE}
        ]},
    ),
    "pai": on("pai", paiConfig={"userName": "u", "token": "t", "host": "h", "reuse": True},
              trial={"command": "x", "codeDir": "code", "gpuNum": 1, "cpuNum": 1, "memoryMB": 1024, "image": "i",
                     "virtualCluster": "v", "nniManagerNFSMountPath": "/a", "containerNFSMountPath": "/b",
                     "paiStorageConfigName": "s", "paiConfigPath": "p.yml"}),
}  # fmt: skip
# Keys of v1 that say nothing which counts here, and the two that v2 does not have in its own way.
WITHOUT_COUNTERPART = {"multiPhase", "logCollection", "versionCheck", "nasMode", "gpuNum", "configPath",
                       "amlConfig", "dltsConfig", "hybridConfig", "paiYarnConfig"}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with everything that the files name."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "main.py").touch()
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    return tmp_path


def source_of(data: JsonObject | str, folder: Path) -> Source:
    text = data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False)
    return parse_text(text, str(folder / "config.yml"), folder)


def parse(data: JsonObject | str, folder: Path) -> ParsedExperiment:
    return parse_experiment(source_of(data, folder), AllowedRoots.of((), folder))


def convert_to(data: JsonObject | str, folder: Path, to: Format | None = None) -> Conversion:
    return convert(source_of(data, folder), to)


def said(spec: ExperimentSpec | None) -> ExperimentSpec | None:
    """A specification without the warnings about keys that do not count and need not be kept."""
    return spec and replace(spec, warnings=())


def keys_in(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(keys_in, value))
    if not isinstance(value, dict):
        return set()
    return set(value).union(*(keys_in(item) for key, item in value.items() if key not in OPAQUE))


def keys_of_schema(module: Any) -> set[str]:
    models = [item for item in vars(module).values() if isinstance(item, type) and issubclass(item, BaseModel)]
    return {key for model in models for key in model.model_fields} - {"metadata", "labels", "annotations", "spec"}


def test_the_files_below_hold_every_key_of_both_formats(folder: Path) -> None:
    written = set().union(*map(keys_in, V1_FILES.values()))
    converted = set().union(*(keys_in(yaml.safe_load(convert_to(file, folder).text)) for file in V1_FILES.values()))

    assert keys_of_schema(v1) - written - WITHOUT_COUNTERPART == set()
    # A v1 file has one place for what v2 also takes from inside trainingService.
    assert keys_of_schema(v2) - converted == {"experimentType"}


@pytest.mark.parametrize("name", V1_FILES)
def test_a_v1_file_comes_back_as_it_was(folder: Path, name: str) -> None:
    file = V1_FILES[name]
    there = convert_to(copy.deepcopy(file), folder)
    back = convert_to(there.text, folder)

    assert (there.format, back.format) == (Format.V2, Format.V1)
    first, last = parse(file, folder), parse(back.text, folder)
    assert said(last.spec) == said(first.spec)
    assert (last.platform, last.tuner, last.assessor) == (first.platform, first.tuner, first.assessor)
    assert {(found.field, found.rule) for found in last.problems} == {
        (found.field, found.rule) for found in first.problems
    }
    assert keys_in(file) - keys_in(yaml.safe_load(back.text)) <= WITHOUT_COUNTERPART


@pytest.mark.parametrize("name", V1_FILES)
def test_a_file_means_the_same_in_both_formats(folder: Path, name: str) -> None:
    first = parse(V1_FILES[name], folder)
    there = parse(convert_to(V1_FILES[name], folder).text, folder)

    assert said(there.spec) == said(first.spec)
    assert (there.platform, there.tuner, there.assessor) == (first.platform, first.tuner, first.assessor)
    assert sorted(found.rule for found in there.problems) == sorted(found.rule for found in first.problems)


@pytest.mark.parametrize("name", V1_FILES)
def test_a_second_round_changes_nothing_more(folder: Path, name: str) -> None:
    v1_text = convert_to(convert_to(V1_FILES[name], folder).text, folder).text

    assert convert_to(convert_to(v1_text, folder).text, folder).text == v1_text


def test_what_v2_writes_differently_is_written_as_v1_wants_it(folder: Path) -> None:
    file = """\
trial_command: python3 main.py
trialConcurrency: 1
maxExperimentDuration: 5400
maxTrialDuration: 0.5d
searchSpaceFile: space.json
tunerGpuIndices: [0, 1]
tuner:
  name: gp
assessor:
  className: pkg.my_assessor.Mine
  codeDirectory: code
trainingService:
  platform: kubeflow
  operator: tf-operator
  apiVersion: v1
  storage: {storageType: nfs, server: h, path: /data}
  worker: {replicas: 1, command: c, cpuNumber: 1, memorySize: 1.5gb, code_directory: .}
"""
    conversion = convert_to(file, folder)

    assert yaml.safe_load(conversion.text) == {
        "authorName": "default",
        "experimentName": folder.name,
        "trialConcurrency": 1,
        "maxExecDuration": "90m",
        "maxTrialDuration": "12h",
        "trainingServicePlatform": "kubeflow",
        "searchSpacePath": "space.json",
        "useAnnotation": False,
        "tuner": {"gpuIndices": "0,1", "builtinTunerName": "GPTuner"},
        "assessor": {"codeDir": "code", "classFileName": "pkg/my_assessor.py", "className": "Mine"},
        "trial": {
            "codeDir": ".",
            "worker": {"replicas": 1, "command": "c", "gpuNum": 0, "cpuNum": 1, "memoryMB": 1536,
                       "image": "msranni/nni:latest"},
        },
        "kubeflowConfig": {"operator": "tf-operator", "apiVersion": "v1", "storage": "nfs",
                           "nfs": {"server": "h", "path": "/data"}},
    }  # fmt: skip
    assert conversion.warnings == ("trialCommand has no counterpart in v1 and is left out",)


def test_keys_stand_in_the_usual_order(folder: Path) -> None:
    shuffled = dict(reversed(COMMON.items()))

    there = list(yaml.safe_load(convert_to(shuffled, folder).text))
    back = list(yaml.safe_load(convert_to(shuffled, folder, Format.V1).text))

    assert there[:3] == ["experimentName", "authorName", "description"]
    assert there[-1] == "trainingService"
    assert back == [key for key in v1.ExperimentV1.model_fields if key in COMMON]


def test_what_is_lost_or_is_ours_is_told(folder: Path) -> None:
    assert convert_to(COMMON, folder).warnings == (
        "logCollection has no counterpart in v2 and is left out",
        "versionCheck has no counterpart in v2 and is left out",
        "tuner.gpuNum has no counterpart in v2 and is left out",
        "assessor.gpuNum has no counterpart in v2 and is left out",
        "trial.nasMode has no counterpart in v2 and is left out",
        "authorName is no key of NNI's v2 format; only Trialflow reads it there",
        "description is no key of NNI's v2 format; only Trialflow reads it there",
        "maxFailedTrialNumber is no key of NNI's v2 format; only Trialflow reads it there",
        "goal is no key of NNI's v2 format; only Trialflow reads it there",
        "multiThread is no key of NNI's v2 format; only Trialflow reads it there",
        "tuner.includeIntermediateResults is no key of NNI's v2 format; only Trialflow reads it there",
    )
    assert convert_to(V1_FILES["the least"], folder).warnings == ()
    conversion = convert_to(V1_FILES["kubeflow on a claim"], folder)
    told = [warning.partition(" is no key")[0] for warning in conversion.warnings]
    assert [key for key in told if key.startswith("trainingService.")] == [
        "trainingService.serviceAccountName",
        "trainingService.storage.claim",
        "trainingService.worker.privateRegistryAuthPath",
        "trainingService.worker.podTemplate",
    ]


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"trialConcurrency": 0}, "trialConcurrency", "must be at least 1"),
        ({"trial": {"command": "x"}}, "trial.codeDir", "is required"),
        ({"nniManagerIp": "{your_ip}"}, "nniManagerIp", "still holds a placeholder"),
        ({"maxTrialNumber": 3}, "maxTrialNumber", "is a key of NNI's v2 format"),
        ({"trainingServicePlatform": "adl"}, "trainingServicePlatform", "has no counterpart in the other format"),
    ],
)
def test_a_file_that_is_wrong_is_not_converted(folder: Path, changes: JsonObject, field: str, rule: str) -> None:
    with pytest.raises(ConfigError) as raised:
        convert_to({**COMMON, **changes}, folder)

    (problem,) = raised.value.problems
    assert problem.field == field
    assert problem.rule.startswith(rule)
    assert problem.line


def test_a_file_is_converted_whether_what_it_names_exists_or_not(folder: Path) -> None:
    file = {**COMMON, "searchSpacePath": "nowhere.json", "trial": {"command": "x", "codeDir": "nowhere"}}

    assert "searchSpaceFile: nowhere.json" in convert_to(file, folder).text


def test_threads_that_nobody_asks_for_are_no_key_of_v2(folder: Path) -> None:
    assert "multiThread" not in convert_to({**COMMON, "multiThread": False}, folder).text


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["convert", *arguments])


def test_the_command_prints_the_other_format_and_warns_on_stderr(folder: Path) -> None:
    (folder / "config.yml").write_text("# a comment\n" + yaml.safe_dump(COMMON, sort_keys=False))

    done = run("-c", str(folder / "config.yml"))

    assert done.exit_code == 0
    assert yaml.safe_load(done.stdout)["trialCommand"] == "python3 main.py"
    assert done.stderr.startswith("warning: logCollection has no counterpart in v2 and is left out\n")
    assert "relative paths" not in done.stderr


def test_the_command_writes_a_file_and_tells_when_paths_start_elsewhere(folder: Path) -> None:
    (folder / "config.yml").write_text(yaml.safe_dump(V1_FILES["the least"]))

    beside = run("-c", str(folder / "config.yml"), "-o", str(folder / "v2.yml"))
    away = run("-c", str(folder / "v2.yml"), "--to", "v2", "-o", str(folder / "code" / "v2.yml"))

    assert (beside.exit_code, beside.stdout, beside.stderr) == (0, "", "")
    assert (folder / "code" / "v2.yml").read_text() == (folder / "v2.yml").read_text()
    assert away.stderr == "warning: relative paths start at the file's new folder now: space.json, code\n"


def test_the_command_refuses_with_every_problem(folder: Path) -> None:
    (folder / "config.yml").write_text(yaml.safe_dump({**COMMON, "maxTrialNum": 0, "trial": {}}))

    done = run("-c", str(folder / "config.yml"))

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("3 problems in the experiment:")


def test_an_output_that_cannot_be_written_is_named(folder: Path) -> None:
    (folder / "config.yml").write_text(yaml.safe_dump(COMMON))

    done = run("-c", str(folder / "config.yml"), "-o", str(folder / "missing" / "v2.yml"))

    assert done.exit_code == 1
    assert "output: cannot be written: No such file or directory" in done.stderr
