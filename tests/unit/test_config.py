from __future__ import annotations

import copy
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from trialflow.config import AllowedRoots, parse_experiment, read_source
from trialflow.config.source import MAX_FILE_BYTES
from trialflow.errors import ConfigError
from trialflow.experiment.loading.load import load_experiment
from trialflow.messages import Problem
from trialflow.records import AlgorithmSpec, ExperimentSpec, JsonObject, OptimizeMode
from trialflow.settings import Settings

EXAMPLE = Path(__file__).parents[2] / "examples" / "01-digits" / "config.yml"
SPACE = '{"x": {"_type": "uniform", "_value": [0, 1]}}'
CONFIG = """\
authorName: someone
experimentName: example
trialConcurrency: 2
maxExecDuration: 90m
maxTrialNum: 5
trainingServicePlatform: local
searchSpacePath: space.json
useAnnotation: false
tuner:
  builtinTunerName: TPE
  classArgs:
    optimize_mode: minimize
trial:
  command: python3 main.py
  codeDir: code
  gpuNum: 0
"""
KUBEFLOW = """\
authorName: default
experimentName: example_tf
trialConcurrency: 1
maxExecDuration: 1h
maxTrialNum: 5
#choice: local, remote, pai, kubeflow
trainingServicePlatform: kubeflow
searchSpacePath: search_space_tf.json
logDir: /home/czh/nni_log_dir
nniManagerIp: 210.28.132.167
#choice: true, false
useAnnotation: false
tuner:
  #choice: TPE, Random, Anneal, Evolution, BatchTuner, MetisTuner, GPTuner
  builtinTunerName: TPE
  classArgs:
    #choice: maximize, minimize
    optimize_mode: maximize
trial:
  codeDir: .
  worker:
    replicas: 1
    command: python3 mnist_tf.py
    gpuNum: 1
    cpuNum: 1
    memoryMB: 8192
    image: msranni/nni:latest
kubeflowConfig:
  operator: tf-operator
  apiVersion: v1
  storage: nfs
  nfs:
    server: 210.28.132.167
    path: /data/nfs/nni_storage
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with everything that CONFIG names."""
    folder = tmp_path / "project"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "main.py").touch()
    (folder / "space.json").write_text(SPACE)
    (folder / "search_space_tf.json").write_text(SPACE)
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", allowed_roots=())


def write(folder: Path, config: str | JsonObject, name: str = "config.yml") -> str:
    path = folder / name
    path.write_text(config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False))
    return str(path)


def changed(**changes: Any) -> JsonObject:
    """CONFIG with other values; ``a__b`` is the key b in the section a, and a value of ``...`` removes it."""
    config = yaml.safe_load(CONFIG)
    for path, value in changes.items():
        *sections, key = path.split("__")
        target = config
        for section in sections:
            target = target[section]
        target[key] = value
        if value is ...:
            del target[key]
    return config


def load(folder: Path, config: str | JsonObject) -> ExperimentSpec:
    return load_experiment(write(folder, config), Settings(home=folder.parent / "home", allowed_roots=()))


def problems_of(folder: Path, config: str | JsonObject) -> list[Problem]:
    with pytest.raises(ConfigError) as raised:
        load(folder, config)
    error = raised.value
    assert str(error).startswith(f"{len(error.problems)} problem")
    assert all(str(problem) in str(error) for problem in error.problems)
    assert str(error).encode()
    return list(error.problems)


def problem_of(folder: Path, config: str | JsonObject) -> Problem:
    problems = problems_of(folder, config)
    assert len(problems) == 1, [str(problem) for problem in problems]
    assert problems[0].file
    assert problems[0].remedy
    return problems[0]


def refusal_of(config: Any, settings: Settings, base: str = "") -> Problem:
    with pytest.raises(ConfigError) as raised:
        load_experiment(config, settings, base)
    assert len(raised.value.problems) == 1, str(raised.value)
    return raised.value.problems[0]


def test_the_local_example_is_accepted(settings: Settings) -> None:
    spec = load_experiment(str(EXAMPLE), settings)

    assert spec.name == "digits"
    assert (spec.trial_concurrency, spec.max_trial_number, spec.max_duration_seconds) == (2, 10, 3600.0)
    assert spec.platform == "local"
    assert spec.tuner == AlgorithmSpec("TPE", {"optimize_mode": "maximize"})
    assert spec.assessor is None
    assert spec.training == {"command": "python3 digits.py", "gpuNum": 0}
    assert Path(spec.code_directory).samefile(EXAMPLE.parent)
    assert list(spec.search_space) == ["hidden_units", "activation", "learning_rate", "alpha", "batch_size"]
    assert spec.warnings == ()


def test_every_key_is_read_into_the_specification(folder: Path) -> None:
    config = changed(
        description="what it is",
        logLevel="debug",
        debug=True,
        tuner__includeIntermediateResults=True,
        assessor={"builtinAssessorName": "Medianstop", "classArgs": {"start_step": 3}},
    )

    spec = load(folder, config)

    assert spec == ExperimentSpec(
        name="example",
        author="someone",
        description="what it is",
        trial_concurrency=2,
        max_trial_number=5,
        max_duration_seconds=5400.0,
        platform="local",
        search_space=json.loads(SPACE),
        tuner=AlgorithmSpec("TPE", {"optimize_mode": "minimize"}, include_intermediate_results=True),
        assessor=AlgorithmSpec("Medianstop", {"start_step": 3}),
        code_directory=str(folder / "code"),
        code_root="/",
        training={"command": "python3 main.py", "gpuNum": 0},
    )


def test_what_may_be_left_out_has_the_defaults_of_nni(folder: Path) -> None:
    spec = load(folder, changed(maxExecDuration=..., maxTrialNum=..., useAnnotation=..., trial__gpuNum=...))

    assert spec.max_duration_seconds == 999 * 86400
    assert spec.max_trial_number == 99999


@pytest.mark.parametrize(("written", "seconds"), [("30s", 30), ("90m", 5400), ("2h", 7200), ("3d", 259200)])
def test_durations_are_read_with_their_unit(folder: Path, written: str, seconds: float) -> None:
    assert load(folder, changed(maxExecDuration=written)).max_duration_seconds == seconds


def test_an_experiment_may_be_an_object_or_a_text_beside_a_folder(folder: Path, settings: Settings) -> None:
    from_file = load(folder, CONFIG)

    assert load_experiment(yaml.safe_load(CONFIG), settings, str(folder)) == from_file
    assert load_experiment(CONFIG, settings, str(folder)) == from_file


def test_an_experiment_may_be_a_json_file(folder: Path, settings: Settings) -> None:
    path = write(folder, json.dumps(yaml.safe_load(CONFIG)), "config.json")

    assert load_experiment(path, settings) == load(folder, CONFIG)


def test_a_search_space_may_be_yaml(folder: Path) -> None:
    (folder / "space.yml").write_text("x:\n  _type: uniform\n  _value: [0, 1]\n")

    assert load(folder, changed(searchSpacePath="space.yml")).search_space == json.loads(SPACE)


# Each: a change of CONFIG; the field, the start of the rule and the value in the problem; the remedy's start.
TRIAL_KEYS = "codeDir, command, gpuNum, nasMode, pythonPath, useCodeCopy"
BAD: dict[str, tuple[JsonObject, str, str, str | None, str]] = {
    "author missing": ({"authorName": ...}, "authorName", "is required", None, "Add it"),
    "description null": (
        {"description": None}, "description", "must be text", "null", "Remove the key, or give it a value",
    ),
    "author null": ({"authorName": None}, "authorName", "must be text", "null", "Give it a value"),
    "goal in quotes": ({"goal": "0.5"}, "goal", "must be a number", '"0.5"', "Remove the quotes"),
    "author empty": ({"authorName": ""}, "authorName", "must not be empty", '""', "Fill it in"),
    "name missing": ({"experimentName": ...}, "experimentName", "is required", None, "Add it"),
    "name blank": ({"experimentName": "  "}, "experimentName", "must not be empty", '"  "', "Fill it in"),
    "name a number": ({"experimentName": 7}, "experimentName", "must be text", "7", "Put it in quotes"),
    "name a date": (
        {"experimentName": datetime.date(2020, 1, 2)},
        "experimentName",
        "must be text",
        '"2020-01-02"',
        "Put it in quotes",
    ),
    "concurrency missing": ({"trialConcurrency": ...}, "trialConcurrency", "is required", None, "Add it"),
    "concurrency 0": ({"trialConcurrency": 0}, "trialConcurrency", "must be at least 1", "0", "Raise it"),
    "concurrency large": (
        {"trialConcurrency": 100_000},
        "trialConcurrency",
        "must be at most 99999",
        "100000",
        "Lower it",
    ),
    "concurrency true": (
        {"trialConcurrency": True},
        "trialConcurrency",
        "must be an integer",
        "true",
        "Write",
    ),
    "concurrency text": ({"trialConcurrency": "2"}, "trialConcurrency", "must be an integer", '"2"', "Write"),
    "concurrency float": (
        {"trialConcurrency": 2.0},
        "trialConcurrency",
        "must be an integer",
        "2.0",
        "Write",
    ),
    "no trials": ({"maxTrialNum": 0}, "maxTrialNum", "must be at least 1", "0", "Raise it"),
    "duration unit": ({"maxExecDuration": "1w"}, "maxExecDuration", "must be a number", '"1w"', "Write 3600, 90m"),
    "duration of two units": (
        {"maxExecDuration": "1h30m"},
        "maxExecDuration",
        "must be a number",
        '"1h30m"',
        "Write 3600, 90m",
    ),
    "duration 0": ({"maxExecDuration": "0h"}, "maxExecDuration", "must be a number", '"0h"', "Write 3600, 90m"),
    "duration huge": (
        {"maxExecDuration": "9" * 400 + "d"},
        "maxExecDuration",
        "must be a number",
        f'"{"9" * 58}…',
        "Write 3600, 90m",
    ),
    "duration below 0": ({"maxExecDuration": -60}, "maxExecDuration", "must be a number", "-60", "Write 3600, 90m"),
    "platform missing": (
        {"trainingServicePlatform": ...},
        "trainingServicePlatform",
        "is required",
        None,
        "Add it",
    ),
    "platform unknown": (
        {"trainingServicePlatform": "Local"},
        "trainingServicePlatform",
        "must be one of 'local', 'remote'",
        '"Local"',
        "Write local",
    ),
    "platform a list": (
        {"trainingServicePlatform": ["local"]},
        "trainingServicePlatform",
        "must be one of",
        '["local"]',
        "Use one of these",
    ),
    "space missing": ({"searchSpacePath": ...}, "searchSpacePath", "is required", None, "Name the JSON file"),
    "space null": ({"searchSpacePath": None}, "searchSpacePath", "is required", None, "Name the JSON file"),
    "space a number": ({"searchSpacePath": 5}, "searchSpacePath", "must be text", "5", "Put it in quotes"),
    "space with NUL": ({"searchSpacePath": "a\0b"}, "searchSpacePath", "must be a path", r"a\x00b", "Remove"),
    "flag text": ({"debug": "yes"}, "debug", "must be true or false", '"yes"', "Write true or false"),
    "log level": ({"logLevel": "loud"}, "logLevel", "must be one of 'trace', 'debug'", '"loud"', "Use one"),
    "tuner missing": ({"tuner": ...}, "tuner", "is required", None, "Name one"),
    "tuner text": ({"tuner": "TPE"}, "tuner", "must be a mapping", '"TPE"', "Indent"),
    "tuner unnamed": (
        {"tuner": {"classArgs": {}}},
        "tuner.builtinTunerName",
        "is required",
        None,
        "Name the algorithm",
    ),
    "tuner unknown": (
        {"tuner": {"builtinTunerName": "TPA"}},
        "tuner.builtinTunerName",
        "is no tuner of NNI's",
        "TPA",
        "Use one of: TPE, Random, ",
    ),
    "class arguments null": (
        {"tuner__classArgs": None},
        "tuner.classArgs",
        "must be a mapping",
        "null",
        "Remove the key, or indent its keys below it",
    ),
    "optimize mode": (
        {"tuner__classArgs": {"optimize_mode": "max"}},
        "tuner.classArgs.optimize_mode",
        "TPE: input should be 'maximize' or 'minimize'",
        '"max"',
        "Arguments of TPE: optimize_mode",
    ),
    "arguments of Random": (
        {"tuner": {"builtinTunerName": "Random", "classArgs": {"seed": 1, "sed": 1}}},
        "tuner.classArgs.sed",
        "Random: extra inputs are not permitted",
        "1",
        "Arguments of Random: optimize_mode, seed",
    ),
    "assessor unknown": (
        {"assessor": {"builtinAssessorName": "Mean"}},
        "assessor.builtinAssessorName",
        "is no assessor of NNI's",
        "Mean",
        "Use one of: Medianstop",
    ),
    "assessor's argument": (
        {"assessor": {"builtinAssessorName": "Medianstop", "classArgs": {"start_step": -1}}},
        "assessor.classArgs.start_step",
        "Medianstop: input should be greater than or equal to 0",
        "-1",
        "Arguments of Medianstop: optimize_mode, start_step",
    ),
    "trial missing": ({"trial": ...}, "trial", "is required", None, "Add it"),
    "trial a list": ({"trial": [1]}, "trial", "must be a mapping", "[1]", "Indent"),
    "command missing": ({"trial__command": ...}, "trial.command", "is required", None, "Add it"),
    "command empty": ({"trial__command": " "}, "trial.command", "must not be empty", '" "', "Fill it in"),
    "command a list": (
        {"trial__command": ["a"]},
        "trial.command",
        "must be text",
        '["a"]',
        "Put it in quotes",
    ),
    "code missing": ({"trial__codeDir": ...}, "trial.codeDir", "is required", None, "Add it"),
    "code with NUL": ({"trial__codeDir": "a\0b"}, "trial.codeDir", "must be a path", r"a\x00b", "Remove"),
    "gpus negative": ({"trial__gpuNum": -1}, "trial.gpuNum", "must be at least 0", "-1", "Raise it"),
}


@pytest.mark.parametrize(("changes", "field", "rule", "value", "remedy"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_with_file_field_rule_value_and_remedy(
    folder: Path, changes: JsonObject, field: str, rule: str, value: str | None, remedy: str
) -> None:
    problem = problem_of(folder, changed(**changes))

    assert problem.file == str(folder / "config.yml")
    assert problem.field == field
    assert problem.rule.startswith(rule)
    assert problem.value == value
    assert problem.remedy.startswith(remedy)


def test_a_problem_reads_as_place_rule_value_and_remedy(folder: Path) -> None:
    assert str(problem_of(folder, CONFIG.replace("trialConcurrency: 2", "trialConcurrency: 0"))) == (
        f"{folder}/config.yml:3: trialConcurrency: must be at least 1; got 0. Raise it"
    )


@pytest.mark.parametrize(("section", "key"), [("trial", "command"), ("tuner", "builtinTunerName")])
def test_a_missing_key_is_placed_on_the_line_of_its_section(folder: Path, section: str, key: str) -> None:
    lines = [line for line in CONFIG.splitlines() if not line.strip().startswith(f"{key}:")]
    problem = problem_of(folder, "\n".join(lines))

    assert problem.field == f"{section}.{key}"
    assert problem.line == lines.index(f"{section}:") + 1


def test_all_problems_are_listed_at_once(folder: Path) -> None:
    (folder / "space.json").write_text(
        '{"a": {"_type": "uniform", "_value": [2, 1]}, "b": {"_type": "choice", "_value": []}}'
    )
    (folder / "code" / "away").symlink_to("/etc/hostname")
    config = changed(
        authorName=...,
        trialConcurrency=0,
        trialNum=3,
        multiPhase=True,
        tuner__builtinTunerName="PPOTuner",
        assessor={"builtinAssessorName": "Medianstop", "classArgs": {"start": 3}},
        trial__command=...,
        trial__gpuNum="one",
    )

    walled = Settings(home=folder.parent / "home", allowed_roots=(folder,))
    with pytest.raises(ConfigError) as raised:
        load_experiment(write(folder, config), walled)

    assert sorted(problem.field for problem in raised.value.problems) == sorted(
        [
            "authorName",
            "trialConcurrency",
            "trialNum",
            "multiPhase",
            "tuner.builtinTunerName",
            "assessor.classArgs.start",
            "trial.command",
            "trial.gpuNum",
            "a._value",
            "b._value",
            "trial.codeDir",
        ]
    )


@pytest.mark.parametrize(
    ("changes", "field", "remedy"),
    [
        ({"trialConcurency": 3}, "trialConcurency", "Did you mean trialConcurrency?"),
        ({"trial__gpuNumber": 0}, "trial.gpuNumber", "Write gpuNum, as v1 calls it"),
        ({"tuner__clasArgs": {}}, "tuner.clasArgs", "Did you mean classArgs?"),
        ({"trial__zzz": 0}, "trial.zzz", f"Remove it; known here: {TRIAL_KEYS}"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(
    folder: Path, changes: JsonObject, field: str, remedy: str
) -> None:
    problem = problem_of(folder, changed(**changes))

    assert problem.field == field
    assert "not a key that NNI knows" in problem.rule
    assert problem.remedy == remedy


@pytest.mark.parametrize("key", ["1: 2", "~: 2", "true: 2"])
def test_a_key_that_is_not_text_is_refused(folder: Path, key: str) -> None:
    assert "should be strings" in problem_of(folder, f"{key}\n{CONFIG}").rule


@pytest.mark.parametrize(
    ("name", "text", "rule", "line"),
    [
        ("config.yml", "a: 1\n---\nb: 2\n", "is not valid YAML: expected a single document", 2),
        ("config.yml", "? [a]\n: 1\n", "is not valid YAML: while constructing a mapping", 1),
        (
            "config.yml",
            "a: !!python/name:os.system\n",
            "is not valid YAML: could not determine a constructor",
            1,
        ),
        ("config.yml", "a: \x00\n", "is not valid YAML", None),
        ("config.yml", "a: 2020-13-45\n", "is not valid YAML: month must be in 1..12", None),
        ("config.json", '{"a": NaN}', "is not valid JSON: NaN is not a JSON number", 1),
        ("config.json", f'{{"a": {"9" * 301}}}', "is not valid JSON: a number must not have more than 300 digits", 1),
        ("config.yml", f"b: 1\na: 0x{'9' * 5000}\n", "is not valid YAML: a number must not have more than", 2),
        ("config.yml", "a: !!int ''\n", "is not valid YAML: a value does not have the type that its tag names", None),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(
    folder: Path, settings: Settings, name: str, text: str, rule: str, line: int | None
) -> None:
    problem = refusal_of(write(folder, text, name), settings)

    assert problem.rule.startswith(rule)
    assert (problem.file, problem.line) == (str(folder / name), line)
    assert problem.remedy.startswith("Correct the file") or "comma" in problem.remedy or "colon" in problem.remedy


@pytest.mark.parametrize(
    ("name", "text", "key", "line"),
    [
        ("config.yml", "trial: 1\ntuner: 2\ntrial: 3\n", "trial", 3),
        ("config.yml", "trial:\n  b: 1\n  b: 2\ntuner: 1\n", "b", 3),
        ("config.json", '{"trial": 1, "tuner": 2,\n "trial": 3}', "trial", 2),
        ("config.json", '{"trial": {"b": 1, "b": 2}, "tuner": 1}', "b", 1),
    ],
)
def test_a_key_that_stands_twice_is_refused(
    folder: Path, settings: Settings, name: str, text: str, key: str, line: int | None
) -> None:
    problem = refusal_of(write(folder, text, name), settings)

    assert problem.rule.endswith(f"the key '{key}' stands twice")
    assert problem.line == line


@pytest.mark.parametrize("text", ["", "# nothing\n", "just words", "- a\n- b\n", "3"])
def test_a_file_that_is_no_mapping_is_refused(folder: Path, text: str) -> None:
    assert problem_of(folder, text).rule == "an experiment is a mapping of keys to values"


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{level}: &a{level}\n  <<: [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)


@pytest.mark.parametrize("bomb", [BOMB, MERGE_BOMB], ids=["lists", "merges"])
def test_a_bomb_of_aliases_is_refused(folder: Path, bomb: str) -> None:
    assert "stands for more than 50000 values" in problem_of(folder, bomb + CONFIG).rule


@pytest.mark.parametrize(
    "text",
    ["a: &a [*a]\n" + CONFIG, CONFIG.replace("  classArgs:", "  classArgs: &a\n    again: *a"), "[" * 1000],
    ids=["list in itself", "mapping in itself", "brackets"],
)
def test_endless_nesting_is_refused(folder: Path, text: str) -> None:
    assert "nested too deeply" in problem_of(folder, text).rule


def test_endless_nesting_in_a_search_space_is_refused(folder: Path) -> None:
    (folder / "space.json").write_text("[" * 100_000)

    assert "nested too deeply" in problem_of(folder, CONFIG).rule


def test_aliases_and_merges_within_reason_are_read(folder: Path) -> None:
    text = CONFIG.replace("classArgs:", "classArgs: &arguments").replace(
        "trial:\n", "assessor:\n  builtinAssessorName: Medianstop\n  classArgs:\n    <<: *arguments\ntrial:\n"
    )

    assert load(folder, text).assessor == AlgorithmSpec("Medianstop", {"optimize_mode": "minimize"})


def test_a_file_that_is_too_large_is_refused(folder: Path) -> None:
    text = CONFIG + "#" * MAX_FILE_BYTES
    problem = problems_of(folder, text)[0]

    assert problem.rule == f"must not be larger than {MAX_FILE_BYTES} bytes"
    assert problem.remedy


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        (None, "must be the path of an experiment file"),
        (5, "must be the path of an experiment file"),
        ([], "must be the path of an experiment file"),
        ("", "must be the path of an experiment file"),
        (" \n ", "must be the path of an experiment file"),
        ("config.yml", "must be the absolute path"),
        ("~nobody-here/config.yml", "must be the absolute path"),
        ("/a\0b", "must be the absolute path"),
        ("/missing/config.yml", "no such file"),
        ("/" + "a" * 5000, "cannot be read: File name too long"),
        (str(Path(__file__).parent), "cannot be read: Is a directory"),
    ],
)
def test_a_config_that_names_no_file_is_refused(settings: Settings, config: Any, rule: str) -> None:
    problem = refusal_of(config, settings)

    assert problem.field == "config"
    assert problem.rule.startswith(rule)
    assert problem.value
    assert problem.remedy


def test_a_config_that_is_not_utf_8_is_refused(folder: Path, settings: Settings) -> None:
    (folder / "config.yml").write_bytes(b"\xff\xfea: 1\n")

    problem = refusal_of(str(folder / "config.yml"), settings)

    assert problem.rule == "must be UTF-8 text; it seems to be UTF-16"
    assert problem.remedy.endswith("iconv -f UTF-16 -t UTF-8 config.yml > new-config.yml")


@pytest.mark.parametrize("base", ["relative", "~nobody-here", "/a\0b"])
def test_a_folder_beside_the_config_must_be_absolute(settings: Settings, base: str) -> None:
    problem = refusal_of(yaml.safe_load(CONFIG), settings, base)

    assert (problem.field, problem.rule) == ("folder", "must be an absolute path")
    assert problem.value


def test_relative_paths_in_an_object_without_a_folder_are_refused(settings: Settings) -> None:
    with pytest.raises(ConfigError) as raised:
        load_experiment(yaml.safe_load(CONFIG), settings)

    assert [problem.field for problem in raised.value.problems] == ["searchSpacePath", "trial.codeDir"]
    assert all(problem.rule.startswith("must be absolute") for problem in raised.value.problems)


def test_an_object_with_whole_paths_needs_no_folder_and_reads_what_the_operator_allows(
    folder: Path, settings: Settings
) -> None:
    config = changed(searchSpacePath=str(folder / "space.json"), trial__codeDir=str(folder / "code"))

    assert load_experiment(config, settings).code_root == "/"
    assert load_experiment(config, Settings(home=settings.home, allowed_roots=(folder,))).code_root == str(folder)
    with pytest.raises(ConfigError) as raised:
        load_experiment(config, Settings(home=settings.home, allowed_roots=(folder / "code",)))
    assert [problem.field for problem in raised.value.problems] == ["searchSpacePath"]
    assert raised.value.problems[0].rule.startswith("must lie inside an allowed")


@pytest.mark.parametrize("root", ["/", "{}", "{}/home", "{}/home/experiments", "{}/home/experiments/other"])
@pytest.mark.parametrize("configured", [False, True])
def test_what_other_experiments_wrote_is_nobody_s_code(
    folder: Path, tmp_path: Path, settings: Settings, root: str, configured: bool
) -> None:
    other = settings.home / "experiments" / "other"
    other.mkdir(parents=True)
    root = root.format(tmp_path)
    if configured:
        settings = Settings(home=settings.home, allowed_roots=(Path(root),))
    config = changed(searchSpacePath=None, searchSpace={"x": {"_type": "choice", "_value": [1]}})
    config["trial"]["codeDir"] = str(other)

    with pytest.raises(ConfigError) as raised:
        load_experiment(config, settings, root)
    problem = next(problem for problem in raised.value.problems if problem.field == "trial.codeDir")
    assert problem.rule.startswith("must lie inside an allowed folder")
    assert str(settings.home) in problem.rule


@pytest.mark.parametrize("way", ["config", "searchSpacePath", "codeDir", "link"])
@pytest.mark.parametrize("place", ["home/uploads/x", "airflow", "elsewhere/airflow.cfg"])
def test_the_installation_s_own_files_are_nobody_s_input(
    folder: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, way: str, place: str
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    monkeypatch.setenv("AIRFLOW_CONFIG", str(tmp_path / "elsewhere/airflow.cfg"))
    secret = tmp_path / place if place.endswith(".cfg") else tmp_path / place / "airflow.cfg"
    secret.parent.mkdir(parents=True)
    secret.write_text(CONFIG)
    config: Any = changed()
    if way == "searchSpacePath":
        config["searchSpacePath"] = str(secret)
    elif way == "codeDir":
        config["trial"]["codeDir"] = str(secret.parent)
    elif way == "link":
        (folder / "code/linked").symlink_to(secret)

    path = str(secret) if way == "config" else write(folder, config)
    if (way, place) == ("codeDir", "elsewhere/airflow.cfg"):  # The file alone is private, and is left out.
        assert load_experiment(path, settings).code_directory == str(secret.parent)
        return
    if (way, place) == ("config", "home/uploads/x"):
        return  # It is an experiment that was uploaded.
    with pytest.raises(ConfigError, match="what Trialflow and Airflow write"):
        load_experiment(path, settings)


def test_dags_that_lie_in_airflow_s_folder_may_bring_experiments(
    folder: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    (tmp_path / "dags").mkdir()
    moved = folder.rename(tmp_path / "dags/exp")

    assert load_experiment(str(moved / Path(write(moved, CONFIG)).name), settings).code_root == str(tmp_path / "dags")


def test_what_is_written_below_the_code_is_left_out_of_it(folder: Path, settings: Settings) -> None:
    home = folder / "code/home"
    (home / "experiments").mkdir(parents=True)
    (home / "experiments/large").write_text("1" * 1000)
    inside = Settings(home=home, allowed_roots=(), max_code_bytes=500)
    assert load_experiment(write(folder, CONFIG), inside).code_directory == str(folder / "code")


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("missing.json", "no such file"),
        ("code", "cannot be read: Is a directory"),
        ("space.json/x", "cannot be read: Not a directory"),
        ("n" * 5000, "cannot be read: File name too long"),
        ("~nobody-here/space.json", "no such file"),
    ],
)
def test_a_search_space_that_cannot_be_read_is_refused(folder: Path, name: str, rule: str) -> None:
    problem = problem_of(folder, CONFIG.replace("space.json", name))

    assert (problem.file, problem.line) == (str(folder / "config.yml"), 7)
    assert (problem.field, problem.rule) == ("searchSpacePath", rule)
    assert problem.value == str(folder / name)


@pytest.mark.parametrize(
    ("text", "field", "rule"),
    [
        ('{"x": {"_type": "uniform", "_value": [1, 0]}}', "x._value", "low must not be greater than high"),
        ('{"x": {"_type": "choice", "_value": []}}', "x._value", "at least one option"),
        ('{"x": {"_type": "uniform", "_value": [0, 1e999]}}', "x._value", "finite numbers"),
        ('{"y": {"_type": "uniform", "_value": [0, 1]}, "x": [0, 1]}', "x", "must be an object with _type and _value"),
        ('{"x": [0, 1]}', "searchSpace", "must be an object of parameters"),
        ("[]", "searchSpace", "must be an object of parameters"),
        ("", "searchSpace", "must be an object of parameters"),
        ('{"x": ', "", "is not valid JSON"),
        ('{"x": {"_type": "uniform", "_value": [0, NaN]}}', "", "NaN is not a JSON number"),
        (f'{{"x": {SPACE}, "x": {SPACE}}}', "", "the key 'x' stands twice"),
    ],
)
def test_a_bad_search_space_is_refused_with_its_file(folder: Path, text: str, field: str, rule: str) -> None:
    (folder / "space.json").write_text(text)

    problem = problem_of(folder, CONFIG)

    assert (problem.file, problem.field) == (str(folder / "space.json"), field)
    assert rule in problem.rule


def test_a_code_folder_that_is_missing_is_refused(folder: Path) -> None:
    problem = problem_of(folder, changed(trial__codeDir="nowhere"))

    assert (problem.field, problem.rule) == ("trial.codeDir", "no such folder")
    assert problem.value == str(folder / "nowhere")


def test_a_code_folder_that_is_a_file_is_refused(folder: Path) -> None:
    problem = problem_of(folder, changed(trial__codeDir="code/main.py"))

    assert (problem.field, problem.rule) == ("trial.codeDir", "must be a folder")


def test_problems_in_the_code_folder_are_placed_in_the_experiment_file(folder: Path) -> None:
    (folder / "code" / "away").symlink_to("/etc/hostname")

    problem = refusal_of(write(folder, CONFIG), Settings(home=folder.parent / "home", allowed_roots=(folder,)))

    assert (problem.file, problem.line) == (str(folder / "config.yml"), 15)
    assert "leads out of the allowed folder" in problem.rule
    assert problem.value == "away"


@pytest.mark.parametrize("limit", [{"max_code_bytes": 3}, {"max_code_files": 1}])
def test_a_code_folder_beyond_the_limits_is_refused(folder: Path, tmp_path: Path, limit: JsonObject) -> None:
    (folder / "code" / "data").write_text("1234")

    problem = refusal_of(write(folder, CONFIG), Settings(home=tmp_path / "home", allowed_roots=(), **limit))

    assert problem.rule.startswith("must not hold more than")


@pytest.mark.parametrize("way", ["..", "absolute", "link", "link to a parent"])
@pytest.mark.parametrize("field", ["trial.codeDir", "searchSpacePath"])
def test_what_lies_outside_the_allowed_root_is_refused(
    folder: Path, tmp_path: Path, way: str, field: str
) -> None:
    outside = tmp_path / "outside"
    (outside / "code").mkdir(parents=True)
    (outside / "space.json").write_text(SPACE)
    name = "code" if field == "trial.codeDir" else "space.json"
    if way == "link":
        (folder / "link").symlink_to(outside / name)
    (folder / "up").symlink_to(tmp_path)
    written = {
        "..": f"code/../../outside/{name}",
        "absolute": str(outside / name),
        "link": "link",
        "link to a parent": f"up/outside/{name}",
    }[way]

    path = write(folder, changed(**{field.replace(".", "__"): written}))
    assert load_experiment(path, Settings(home=tmp_path / "home", allowed_roots=())).code_root == "/"
    problem = refusal_of(path, Settings(home=tmp_path / "home", allowed_roots=(folder,)))

    assert problem.field == field
    assert problem.rule.startswith(f"must lie inside an allowed folder ({folder}), '..' and links resolved")
    assert "TRIALFLOW_ALLOWED_ROOTS" in problem.remedy


def test_a_path_with_dots_that_stays_inside_is_accepted(folder: Path) -> None:
    (folder / "link").symlink_to("code")

    path = write(folder, changed(trial__codeDir="code/../link"))
    spec = load_experiment(path, Settings(home=folder.parent / "home", allowed_roots=(folder,)))
    assert spec.code_root == str(folder)


def test_the_operator_may_allow_more_folders(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lib" / "code").mkdir(parents=True)
    (tmp_path / "alias").symlink_to(tmp_path / "lib")
    path = write(folder, changed(trial__codeDir="../lib/code"))

    spec = load_experiment(path, Settings(home=tmp_path / "home", allowed_roots=(folder, tmp_path / "alias")))

    assert spec.code_root == str(tmp_path / "lib")


def test_an_experiment_file_outside_the_operators_folders_is_refused(folder: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "config.yml").symlink_to(write(folder, CONFIG))

    for path in (folder / "config.yml", allowed / "config.yml"):
        problem = refusal_of(str(path), Settings(home=tmp_path / "home", allowed_roots=(allowed,)))
        assert problem.field == "config"
        assert problem.rule.startswith(f"must lie inside an allowed folder ({allowed})")


def test_an_experiment_file_that_links_out_of_the_allowed_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.yml").write_text(CONFIG)
    (folder / "config.yml").symlink_to(tmp_path / "secret.yml")

    with pytest.raises(ConfigError, match="must lie inside an allowed folder"):
        load_experiment(str(folder / "config.yml"), Settings(home=tmp_path / "home", allowed_roots=(folder,)))


def test_the_kubeflow_file_of_an_nni_user_is_accepted_with_nothing_changed(folder: Path) -> None:
    settings = Settings(home=folder.parent / "home", allowed_roots=())

    spec = load_experiment(write(folder, KUBEFLOW), settings, preflight=False)

    assert (spec.platform, spec.trial_concurrency, spec.max_trial_number) == ("kubeflow", 1, 5)
    assert [warning.partition(" ")[0] for warning in spec.warnings] == ["nniManagerIp", "logDir"]


def test_the_kubeflow_file_is_parsed_whole(folder: Path) -> None:
    source = read_source(Path(write(folder, KUBEFLOW)))

    parsed = parse_experiment(source, AllowedRoots.of((), folder))

    assert parsed.problems == []
    assert parsed.spec is not None
    assert parsed.spec.training == {
        "worker": {
            "replicas": 1,
            "command": "python3 mnist_tf.py",
            "gpuNum": 1,
            "cpuNum": 1,
            "memoryMB": 8192,
            "image": "msranni/nni:latest",
            "privateRegistryAuthPath": None,
            "podTemplate": None,
        },
        "ps": None,
        "master": None,
        "kubeflowConfig": {
            "operator": "tf-operator",
            "apiVersion": "v1",
            "namespace": None,
            "serviceAccountName": None,
            "storage": "nfs",
            "nfs": {"server": "210.28.132.167", "path": "/data/nfs/nni_storage"},
            "pvc": None,
            "keyVault": None,
            "azureStorage": None,
            "uploadRetryCount": None,
        },
    }


@pytest.mark.parametrize(
    ("old", "new", "field", "rule"),
    [
        ("cpuNum: 1", "cpuNum: 0.5", "trial.worker.cpuNum", "must be an integer"),
        ("memoryMB: 8192", "memoryMB: 8Gi", "trial.worker.memoryMB", "must be an integer"),
        (
            "image: msranni/nni:latest",
            "imag: x\n    image: y",
            "trial.worker.imag",
            "not a key that NNI knows",
        ),
        ("    image: msranni/nni:latest\n", "", "trial.worker.image", "is required"),
        ("worker:", "wrker:", "trial.wrker", "not a key that NNI knows"),
        ("operator: tf-operator", "operator: mpi", "kubeflowConfig.operator", "must be one of"),
        (
            "storage: nfs",
            "storage: azureStorage",
            "kubeflowConfig.storage",
            "is understood, but not built yet",
        ),
        (
            "server: 210.28.132.167",
            "server: {your_ip}",
            "kubeflowConfig.nfs.server",
            "still holds a placeholder",
        ),
        ("    path: /data/nfs/nni_storage\n", "", "kubeflowConfig.nfs.path", "is required"),
        ("apiVersion: v1", "apiVersion: v9", "kubeflowConfig.apiVersion", "must be one of v1alpha2"),
        ("replicas: 1", "replicas: 0", "trial.worker.replicas", "must be at least 1"),
        ("worker:", "master:", "trial.master", "is no role of tf-operator"),
        ("useAnnotation: false", "useAnnotation: false\nmultiPhase: true", "multiPhase", "not built yet"),
        ("trial:", "localConfig: {useActiveGpu: true}\ntrial:", "localConfig", "belongs to the local platform"),
        (
            "image: msranni",
            "privateRegistryAuthPath: ~/airflow/airflow.cfg\n    image: msranni",
            "trial.worker.privateRegistryAuthPath",
            "must lie inside an allowed folder",
        ),
        (
            "image: msranni",
            "privateRegistryAuthPath: nope.json\n    image: msranni",
            "trial.worker.privateRegistryAuthPath",
            "no such file",
        ),
        (
            "image: msranni",
            "privateRegistryAuthPath: .\n    image: msranni",
            "trial.worker.privateRegistryAuthPath",
            "must be a file that can be read",
        ),
        (
            "image: msranni",
            "podTemplate: {spec: {restartPolicy: Always}}\n    image: msranni",
            "trial.worker.podTemplate.spec.restartPolicy",
            "the operator overwrites it",
        ),
    ],
)
def test_a_mistake_in_a_kubeflow_file_is_named(
    folder: Path, old: str, new: str, field: str, rule: str
) -> None:
    assert KUBEFLOW.count(old) == 1

    rules = {problem.field: problem.rule for problem in problems_of(folder, KUBEFLOW.replace(old, new))}

    assert set(rules) - {"trial.worker"} == {field} - {"trial.worker"}
    assert rule in rules[field]


def test_kubeflow_needs_its_own_section_and_a_role(folder: Path) -> None:
    config = yaml.safe_load(KUBEFLOW)
    del config["trial"]["worker"]
    rules = {problem.field: problem.rule for problem in problems_of(folder, config)}
    assert rules["trial.worker"].startswith("is required with tf-operator")

    del config["kubeflowConfig"]
    rules = {problem.field: problem.rule for problem in problems_of(folder, config)}
    assert rules["kubeflowConfig"] == "is required on kubeflow"


MACHINES = [{"ip": "10.0.0.1", "username": "u", "passwd": "hunter2"}, {"ip": "m", "port": 2222, "username": "u"}]
TASK_ROLE: JsonObject = {
    "name": "worker",
    "taskNum": 1,
    "command": "python3 main.py",
    "gpuNum": 0,
    "cpuNum": 1,
    "memoryMB": 1024,
    "image": "img",
    "frameworkAttemptCompletionPolicy": {"minFailedTaskCount": 1, "minSucceededTaskCount": 1},
}
FRAMEWORKCONTROLLER = {"nfs": {"server": "10.0.0.1", "path": "/data"}, "namespace": "tuning"}
PLATFORMS: dict[str, JsonObject] = {
    "remote": {"machineList": MACHINES, "remoteConfig": {"reuse": True}},
    "frameworkcontroller": {
        "trial": {"codeDir": "code", "taskRoles": [TASK_ROLE]},
        "frameworkcontrollerConfig": FRAMEWORKCONTROLLER,
    },
    "pai": {"paiConfig": {"userName": "u", "host": "h", "token": "hunter2"}},
    "paiYarn": {"paiYarnConfig": {"userName": "u", "host": "h", "passWord": "hunter2"}},
    "aml": {"amlConfig": {"workspaceName": "w"}},
    "dlts": {"dltsConfig": {"dashboard": "d"}},
    "adl": {},
    "hybrid": {"hybridConfig": {"trainingServicePlatforms": ["local", "remote"]}},
}


@pytest.mark.parametrize(("platform", "sections"), PLATFORMS.items(), ids=PLATFORMS)
def test_the_other_platforms_are_read_and_refused_by_name(
    folder: Path, platform: str, sections: JsonObject
) -> None:
    problem = problem_of(folder, changed(trainingServicePlatform=platform, **sections))

    assert (problem.field, problem.value) == ("trainingServicePlatform", platform)
    assert "cannot run there yet" in problem.rule


@pytest.mark.parametrize(
    ("platform", "changes", "field", "rule"),
    [
        ("remote", {"machineList": [{"username": "u"}]}, "machineList.0.ip", "is required"),
        ("remote", {"machineList": [{**MACHINES[0], "user": "u"}]}, "machineList.0.user", "not a key"),
        ("remote", {"machineList": [{"ip": "m", "username": "u", "port": 0}]}, "machineList.0.port", "at least 1"),
        ("frameworkcontroller", {"trial__taskRoles": ...}, "trial.taskRoles", "needs at least one role"),
        (
            "frameworkcontroller",
            {"trial__taskRoles": [{**TASK_ROLE, "taskNum": "1"}]},
            "trial.taskRoles.0.taskNum",
            "must be an integer",
        ),
        ("frameworkcontroller", {"frameworkcontrollerConfig": ...}, "frameworkcontrollerConfig", "is required on"),
        (
            "frameworkcontroller",
            {"frameworkcontrollerConfig": {"storage": "pvc"}},
            "frameworkcontrollerConfig.pvc",
            "is required with storage pvc",
        ),
    ],
)
def test_a_mistake_in_a_file_of_another_platform_is_named_beside_the_platform(
    folder: Path, platform: str, changes: JsonObject, field: str, rule: str
) -> None:
    config = changed(trainingServicePlatform=platform, **copy.deepcopy(PLATFORMS[platform]))
    for path, value in changes.items():
        section, _, key = path.rpartition("__")
        target = config[section] if section else config
        target[key] = value
        if value is ...:
            del target[key]

    rules = {problem.field: problem.rule for problem in problems_of(folder, config)}

    assert rule in rules[field]
    assert set(rules) == {field, "trainingServicePlatform"}


@pytest.mark.parametrize(
    ("section", "content"),
    [
        ("machineList", [{"ip": "10.0.0.1", "username": "u", "passwd": "hunter2"}]),
        ("paiConfig", {"host": "h", "userName": "u", "passWord": "hunter2"}),
        ("paiConfig", {"host": "h", "userName": "u", "token": "hunter2"}),
    ],
)
def test_a_section_that_is_not_built_is_refused_without_showing_its_password(
    folder: Path, section: str, content: Any
) -> None:
    problem = problem_of(folder, changed(**{section: content}))

    assert problem.field == section
    assert problem.rule == "is understood, but not built yet"
    assert "hunter2" not in str(problem)
    assert '"u"' in str(problem)


@pytest.mark.parametrize(
    ("section", "content"),
    [
        ("machineList", [{"ip": "10.0.0.1", "username": "u", "passwd": 12345678}]),
        ("machineList", [{"ip": "10.0.0.1", "username": "u", "pasword": 12345678}]),
        ("machineList", [{"ip": "10.0.0.1", "username": "u", "sshKeyPath": "k", "passphrase": 12345678}]),
        ("sharedStorage", {"storageType": "AzureBlob", "storageAccountKey": 12345678}),
    ],
)
def test_a_secret_of_the_wrong_type_is_not_shown(folder: Path, section: str, content: Any) -> None:
    told = "\n".join(str(problem) for problem in problems_of(folder, changed(**{section: content})))

    assert f"{section}." in told
    assert "12345678" not in told


def test_a_parameter_s_name_makes_no_secret_of_it(folder: Path) -> None:
    (folder / "space.json").write_text('{"token_dim": {"_type": "uniform", "_value": [3, 2]}}')

    assert problem_of(folder, CONFIG).value == "[3, 2]"


@pytest.mark.parametrize("tuner", ["NetworkMorphism", "PPOTuner"])
def test_an_architecture_search_is_refused_by_name(folder: Path, tuner: str) -> None:
    problem = problem_of(folder, changed(tuner={"builtinTunerName": tuner}))

    assert (problem.field, problem.value) == ("tuner.builtinTunerName", tuner)
    assert problem.rule == "is an architecture search, and Trialflow tunes parameters only"
    assert problem.remedy.startswith("Use one of: TPE, Random, ")


@pytest.mark.parametrize("tuner", ["PBTTuner", "DNGOTuner"])
def test_a_tuner_of_nni_s_that_is_not_built_is_named_as_such(folder: Path, tuner: str) -> None:
    problem = problem_of(folder, changed(tuner={"builtinTunerName": tuner}))

    assert (problem.value, problem.rule) == (tuner, "is a tuner of NNI's that is not built")
    assert problem.remedy.startswith("Use one of: TPE, Random, ")


@pytest.mark.parametrize("name", ["Hyperband", "BOHB"])
def test_an_advisor_is_read_as_what_suggests(folder: Path, name: str) -> None:
    advisor = {"builtinAdvisorName": name, "classArgs": {"optimize_mode": "minimize", "eta": 2}}

    spec = load(folder, changed(tuner=..., assessor=..., advisor=advisor))

    assert spec.tuner == AlgorithmSpec(name, advisor["classArgs"])
    assert spec.optimize_mode is OptimizeMode.MINIMIZE


@pytest.mark.parametrize(("section", "name"), [("tuner", "Hyperband"), ("advisor", "TPE")])
def test_a_tuner_or_an_advisor_may_stand_in_the_section_of_the_other(folder: Path, section: str, name: str) -> None:
    raw = {f"builtin{section.capitalize()}Name": name}

    spec = load(folder, changed(**{"tuner": ..., "assessor": ..., section: raw}))

    assert spec.tuner.name == name


def test_an_advisor_beside_an_assessor_is_refused(folder: Path) -> None:
    sections = {"advisor": {"builtinAdvisorName": "BOHB"}, "assessor": {"builtinAssessorName": "Medianstop"}}

    problem = problem_of(folder, changed(tuner=..., **sections))

    assert (problem.field, problem.rule) == ("assessor", "assessor and advisor exclude each other")


@pytest.mark.parametrize(
    ("advisor", "field", "rule"),
    [
        ({"builtinAdvisorName": "Hyperband", "classArgs": {"R": 9}}, "advisor.classArgs", "optimize_mode is required"),
        (
            {"builtinAdvisorName": "BOHB", "classArgs": {"optimize_mode": "minimize", "eta": 1}},
            "advisor.classArgs.eta",
            "input should be greater than or equal to 2",
        ),
        ({"builtinAdvisorName": "Bohbe"}, "advisor.builtinAdvisorName", "is no advisor of NNI's"),
    ],
)
def test_a_wrong_advisor_is_refused(folder: Path, advisor: JsonObject, field: str, rule: str) -> None:
    problem = problem_of(folder, changed(tuner=..., assessor=..., advisor=advisor))

    assert problem.field == field
    assert rule in problem.rule


def test_a_search_space_that_the_tuner_does_not_take_is_refused(folder: Path) -> None:
    problem = problem_of(folder, changed(tuner={"builtinTunerName": "BatchTuner"}))

    assert (problem.field, problem.value) == ("searchSpacePath", '"uniform"')
    assert problem.rule == "x._type: BatchTuner does not take parameters of this type"
    assert "Use one of choice" in problem.remedy


def test_a_tuner_beside_an_advisor_is_refused(folder: Path) -> None:
    problems = problems_of(folder, changed(advisor={"builtinAdvisorName": "BOHB"}))

    assert "tuner and advisor exclude each other" in [problem.rule for problem in problems]


def test_a_search_space_beside_annotations_is_refused(folder: Path) -> None:
    (folder / "code" / "main.py").write_text("'@nni.variable(nni.uniform(0, 1), name=x)'\nx = 0\n")

    problem = problem_of(folder, changed(useAnnotation=True))

    assert (problem.field, problem.value) == ("searchSpacePath", "space.json")
    assert problem.rule.startswith("and useAnnotation: true exclude each other")


def test_a_flag_that_is_text_is_one_problem(folder: Path) -> None:
    problem = problem_of(folder, changed(useAnnotation="yes"))

    assert (problem.field, problem.rule) == ("useAnnotation", "must be true or false")


def test_several_phases_are_refused_by_name(folder: Path) -> None:
    assert problem_of(folder, changed(multiPhase=True)).field == "multiPhase"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"trial__gpuNum": 2}, {"gpuNum": 2}),
        ({"trial__gpuNum": ...}, {}),
        (
            {"trial__gpuNum": 1, "localConfig": {"gpuIndices": "3, 0", "maxTrialNumPerGpu": 2, "useActiveGpu": True}},
            {"gpuNum": 1, "gpuIndices": [0, 3], "maxTrialNumPerGpu": 2, "useActiveGpu": True},
        ),
        ({"trial__useCodeCopy": True, "trial__gpuNum": 0}, {"useCodeCopy": True, "gpuNum": 0}),
    ],
)
def test_what_a_local_trial_asks_for_is_read_and_what_is_left_out_stays_out(
    folder: Path, changes: JsonObject, found: JsonObject
) -> None:
    config = write(folder, changed(**changes))

    spec = load_experiment(config, Settings(home=folder.parent / "home", allowed_roots=()), preflight=False)

    assert spec.training == {"command": "python3 main.py", **found}
    assert spec.warnings == ()


@pytest.mark.parametrize("indices", ["a", "0,", -1, True, [0]])
def test_gpu_indices_are_numbers(folder: Path, indices: Any) -> None:
    if indices == [0]:
        assert load(folder, changed(localConfig={"gpuIndices": indices})).warnings
    else:
        problem = problem_of(folder, changed(localConfig={"gpuIndices": indices}))
        assert problem.rule.startswith("must be the number of a GPU")


@pytest.mark.parametrize(
    ("old", "field"),
    [
        ("authorName: someone", "authorName"),
        ("experimentName: example", "experimentName"),
        ("trialConcurrency: 2", "trialConcurrency"),
        ("searchSpacePath: space.json", "searchSpacePath"),
        ("trainingServicePlatform: local", "trainingServicePlatform"),
        ("  builtinTunerName: TPE", "tuner.builtinTunerName"),
        ("  command: python3 main.py", "trial.command"),
        ("  codeDir: code", "trial.codeDir"),
    ],
)
def test_a_placeholder_that_was_not_filled_in_is_named(folder: Path, old: str, field: str) -> None:
    assert CONFIG.count(old) == 1

    key, _, _ = old.partition(":")
    problem = problem_of(folder, CONFIG.replace(old, f"{key}: {{your_choice}}"))

    assert problem.field == field
    assert problem.rule == "still holds a placeholder"
    assert problem.value == "{your_choice}"
    assert problem.remedy == "Replace it, braces included"


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc",
        "a\\b",
        "..",
        ".",
        "line\nbreak",
        "nul\0",
        "\x1b[31mred",
        "del\x7f",
        "\u202egnp.exe",
        "line\u2028separator",
        "x" * 129,
    ],
)
def test_a_hostile_experiment_name_is_refused(folder: Path, settings: Settings, name: str) -> None:
    write(folder, CONFIG)

    problem = refusal_of(changed(experimentName=name), settings, str(folder))

    assert problem.field == "experimentName"
    assert problem.rule.startswith("must be 1 to 128 printable characters")
    assert str(problem).isprintable()


def test_an_experiment_name_that_is_not_unicode_is_refused(folder: Path) -> None:
    problems = problems_of(folder, CONFIG.replace(": example", ': "\\ud800"'))

    assert {problem.field for problem in problems} == {"experimentName"}
    assert all(str(problem).isprintable() for problem in problems)


@pytest.mark.parametrize(
    "name", ["x" * 128, "zwei Wörter", "实验", "a.b-c_d (1)", "$(touch x); `id`", "{{ ds }}", "..."]
)
def test_an_unusual_experiment_name_is_kept_as_it_is(folder: Path, name: str) -> None:
    assert load(folder, changed(experimentName=name)).name == name


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"nniManagerIp": "10.0.0.1"}, "nniManagerIp has no effect: no trial talks to a manager"),
        (
            {"logDir": "/var/log/nni"},
            "logDir has no effect: the experiment's folder lies below TRIALFLOW_HOME",
        ),
        ({"logCollection": "http"}, "logCollection has no effect"),
        ({"trial__nasMode": "classic_mode"}, "trial.nasMode has no effect: there is no architecture search"),
        ({"localConfig": {"gpuIndices": "0,1"}}, "localConfig.gpuIndices has no effect: the trials ask for no GPU"),
        ({"multiThread": True}, "multiThread has no effect: only a tuner of your own"),
        ({"versionCheck": True}, "versionCheck has no effect"),
        ({"tuner__gpuIndices": "0"}, "tuner.gpuIndices has no effect"),
        ({"assessor": {"builtinAssessorName": "Medianstop", "gpuNum": 0}}, "assessor.gpuNum has no effect"),
    ],
)
def test_a_key_without_effect_is_accepted_with_a_warning(
    folder: Path, changes: JsonObject, warning: str
) -> None:
    warnings = load(folder, changed(**changes)).warnings

    assert len(warnings) == 1
    assert warnings[0].startswith(warning)


@pytest.mark.parametrize(
    "changes",
    [{"logCollection": "none"}, {"multiThread": False}, {"versionCheck": False}, {"nniManagerIp": ""}],
)
def test_a_key_that_says_what_is_so_anyway_gives_no_warning(folder: Path, changes: JsonObject) -> None:
    assert load(folder, changed(**changes)).warnings == ()


def test_a_search_space_may_stand_in_the_file_itself(folder: Path) -> None:
    assert load(folder, changed(searchSpacePath=..., searchSpace=json.loads(SPACE))).search_space == json.loads(SPACE)


def test_a_problem_of_a_search_space_in_the_file_is_placed_on_its_line(folder: Path) -> None:
    text = CONFIG.replace(
        "searchSpacePath: space.json", "searchSpace:\n  x:\n    _type: uniform\n    _value: [1, 0]"
    )
    problem = problem_of(folder, text)

    assert (problem.field, problem.line) == ("searchSpace.x._value", 10)
    assert "low must not be greater than high" in problem.rule


@pytest.mark.parametrize("text", ["{your_path}", "${replace_to_your_path}", "/mnt/{your_user}/code"])
def test_a_placeholder_in_quotes_is_named_as_well(folder: Path, text: str) -> None:
    problem = problem_of(folder, changed(trial__codeDir=text))

    assert (problem.field, problem.rule) == ("trial.codeDir", "still holds a placeholder")
    assert problem.value in text
