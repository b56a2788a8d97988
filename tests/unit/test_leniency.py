"""Files as people write them: what NNI 3.0 takes is taken, and what it does not take comes with the right remedy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from trialflow.config import Format, convert, read_source
from trialflow.config.fields import seconds_of
from trialflow.config.source import parse_text
from trialflow.errors import ConfigError
from trialflow.experiment.loading.load import load_experiment
from trialflow.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from trialflow.messages import Problem
    from trialflow.records import ExperimentSpec

V1 = """\
authorName: me
experimentName: example
trialConcurrency: 2
maxExecDuration: 1h
maxTrialNum: 3
trainingServicePlatform: local
searchSpacePath: space.json
useAnnotation: false
tuner:
  builtinTunerName: TPE
  classArgs:
    optimize_mode: maximize
trial:
  command: python3 trial.py
  codeDir: .
  gpuNum: 0
"""
V2 = """\
searchSpaceFile: space.json
trialCommand: python3 trial.py
trialConcurrency: 2
maxTrialNumber: 3
tuner:
  name: TPE
trainingService:
  platform: local
"""
SPACE = '{"lr": {"_type": "uniform", "_value": [0.1, 1]}}'
READ = json.loads(SPACE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "trial.py").write_text("import nni\n")
    (folder / "space.json").write_text(SPACE)
    return folder


def load(folder: Path, config: str) -> ExperimentSpec:
    (folder / "config.yml").write_text(config)
    return load_experiment(str(folder / "config.yml"), Settings(home=folder.parent / "home"), preflight=False)


def problems_of(folder: Path, config: str) -> list[Problem]:
    with pytest.raises(ConfigError) as raised:
        load(folder, config)
    return list(raised.value.problems)


def remedy_of(folder: Path, config: str, field: str = "") -> str:
    found = [problem for problem in problems_of(folder, config) if problem.field == field]
    assert len(found) == 1
    assert found[0].line
    return found[0].remedy


@pytest.mark.parametrize(
    "text",
    [
        '{"lr": {"_type": "uniform", "_value": [0.1, 1],},}',
        "{'lr': {'_type': 'uniform', '_value': [0.1, 1]}}",
        '# about it\n{"lr": # this one\n  {"_type": "uniform", "_value": [0.1, 1]}}',
        '\ufeff{"lr": {"_type": "uniform", "_value": [0.1, 1]}}',
        '{"lr":\t{"_type":\t"uniform",\t"_value": [0.1,\t1],},}',
        '{\n\t"lr": {\n\t\t"_type": "uniform",\n\t\t"_value": [0.1, 1],\n\t},\n}',
        "lr: {_type: uniform, _value: [1e-1, 1]}",
        "\ufefflr:\n  _type: uniform\n  _value:\n  - 1.e-1\n  - 1E0",
        "lr: {_type: uniform, _value: ['0.1', \"1\"]}",
    ],
)
@pytest.mark.parametrize("name", ["space.json", "space.yml"])
def test_a_search_space_file_is_json_or_yaml_whatever_it_is_called(folder: Path, text: str, name: str) -> None:
    (folder / name).write_text(text)

    (parameter,) = parameters_of(load(folder, V1.replace("space.json", name)))

    assert (parameter.type, parameter.arguments) == ("uniform", (0.1, 1))


def parameters_of(spec: ExperimentSpec) -> Any:
    from trialflow.search_space import parse_search_space

    space, problems = parse_search_space(spec.search_space)
    assert problems == []
    return space.parameters


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-3", 1e-3), ("1E5", 1e5), ("5e-1", 0.5), ("-1e3", -1e3), ("+1e3", 1e3), (".5e2", 50), ("1e+2", 100)],
)
def test_a_number_with_an_exponent_is_one_where_numbers_belong(folder: Path, text: str, number: float) -> None:
    space = f"searchSpace: {{x: {{_type: choice, _value: [{text}, '{text}']}}}}\n"
    config = V2.replace("searchSpaceFile: space.json\n", space) + f"goal: {text}\nexperimentName: {text}\n"

    spec = load(folder, config)

    (parameter,) = parameters_of(spec)
    assert [option.value for option in parameter.options] == [number, text]
    assert (spec.goal, spec.name) == (number, text)
    (warning,) = spec.warnings
    assert warning.startswith(f"searchSpace.x._value has numbers that NNI reads as texts: {text};")


def test_a_bound_with_an_exponent_is_no_news_and_an_option_of_a_file_is(folder: Path) -> None:
    (folder / "space.yml").write_text(
        "lr: {_type: loguniform, _value: [1e-6, 1e-3]}\nc: {_type: choice, _value: [1e-3, 2, 1e-5]}"
    )

    (warning,) = load(folder, V1.replace("space.json", "space.yml")).warnings

    assert warning.startswith("c._value has numbers that NNI reads as texts: 1e-3, 1e-5;")


def test_class_arguments_have_numbers_with_an_exponent(folder: Path) -> None:
    config = V1.replace("TPE", "GPTuner").replace("optimize_mode: maximize", "optimize_mode: maximize\n    nu: 5e-1")

    spec = load(folder, config)

    assert spec.tuner.class_args["nu"] == 0.5
    assert spec.warnings[0].startswith("tuner.classArgs.nu has numbers")


def test_a_text_that_looks_like_a_number_stays_one_when_a_file_is_converted(folder: Path) -> None:
    options = "searchSpace: {x: {_type: choice, _value: ['1e-3', 1e-3]}}\n"
    (folder / "config.yml").write_text(V2.replace("searchSpaceFile: space.json\n", options))

    text = convert(read_source(folder / "config.yml"), Format.V1).text

    assert parse_text(text).data["searchSpace"]["x"]["_value"] == ["1e-3", 1e-3]


@pytest.mark.parametrize("config", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("3600", 3600), ('"3600"', 3600), ("1.5h", 5400), ("0.5 H", 1800), ("1e2s", 100), ("2.5", 3), ("1d", 86400)],
)
def test_a_duration_is_a_number_of_seconds_or_has_a_unit(
    folder: Path, config: str, duration: str, seconds: int
) -> None:
    key = "maxExecDuration" if config == V1 else "maxExperimentDuration"
    rest = "".join(line for line in config.splitlines(keepends=True) if not line.startswith(key))

    spec = load(folder, f"{rest}{key}: {duration}\nmaxTrialDuration: {duration}\n")

    assert (spec.max_duration_seconds, spec.max_trial_duration_seconds) == (seconds, seconds)


@pytest.mark.parametrize("duration", ["1h30m", "5min", "h", "", "-1h", "0s", "nan", "infs", "1e99d", True, [1], "1 2s"])
def test_what_is_no_duration_to_nni_is_none_here(duration: Any) -> None:
    assert seconds_of(duration) is None


def test_seconds_in_quotes_are_converted_to_what_nni_reads(folder: Path) -> None:
    (folder / "config.yml").write_text(V1.replace("maxExecDuration: 1h", 'maxExecDuration: "3600"'))

    assert yaml.safe_load(convert(read_source(folder / "config.yml")).text)["maxExperimentDuration"] == 3600


@pytest.mark.parametrize(
    ("written", "name"),
    [("tpe", "TPE"), ("random", "Random"), ("gridsearch", "GridSearch"), ("Gp", "GPTuner"), ("HYPERBAND", "Hyperband")],
)
@pytest.mark.parametrize("config", [V1, V2], ids=["v1", "v2"])
def test_the_case_of_a_tuner_s_name_does_not_matter(folder: Path, config: str, written: str, name: str) -> None:
    assert load(folder, config.replace("TPE", written)).tuner.name == name


@pytest.mark.parametrize("name", ["Random", "GridSearch"])
def test_the_direction_is_taken_from_tuners_that_do_not_need_it(folder: Path, name: str) -> None:
    spec = load(folder, V1.replace("TPE", name).replace("maximize", "minimize"))

    assert (spec.tuner.name, spec.optimize_mode) == (name, "minimize")


def test_a_batch_takes_any_values(folder: Path) -> None:
    (folder / "space.json").write_text('{"combine_params": {"_type": "choice", "_value": [1, "a", [2], {"b": 3}]}}')

    assert load(folder, V1.replace("TPE", "BatchTuner")).tuner.name == "BatchTuner"


def test_a_search_space_may_be_empty(folder: Path) -> None:
    (folder / "space.json").write_text("{}")

    assert load(folder, V1).search_space == {}


BLANK = "Write a blank after the colon"
REMEDIES: dict[str, tuple[str, str, str]] = {
    "no blank in a section": (
        V1 + "localConfig:\n    maxTrialNumPerGpu:20\n    useActiveGpu:True\n",
        "localConfig",
        f"{BLANK}: maxTrialNumPerGpu: 20, useActiveGpu: True",
    ),
    "no blank at the top": (V1 + "debug:true\n", "", f"{BLANK} in line 17: debug: true"),
    "no blank among others": (V1.replace("maxTrialNum: ", "maxTrialNum:"), "", f"{BLANK} in line 5: maxTrialNum: 3"),
    "no blank before a path": (V1.replace("codeDir: .", "codeDir:."), "", f"{BLANK} in line 15: codeDir: ."),
    "no blank in braces": (V2.replace("\n  name: TPE", " {name:TPE}"), "tuner.name:TPE", f"{BLANK}: name: TPE"),
    "a colon in a value": (
        V1 + "description: about: this\n", "",
        "Put the value in quotes, for it holds a colon and a blank: description: 'about: this'",
    ),
    "a tab": (V1 + "localConfig:\n\tuseActiveGpu: true\n", "", "YAML takes no tabs outside of quotes: write blanks"),
    "a backslash": (V1 + 'logDir: "C:\\path"\n', "", "Write the text in single quotes"),
    "an at sign": (V1 + "logDir: @home\n", "", "Put the value in quotes: no text begins with @ without them"),
    "an indentation": (V1 + "localConfig:\n  gpuIndices: 0\n    useActiveGpu: true\n", "", "Indent the keys of one"),
    "GPUs at the top": (
        V2 + "maxTrialNumPerGpu: 2\n", "maxTrialNumPerGpu",
        "Move it: it is called maxTrialNumberPerGpu and belongs into trainingService",
    ),
    "GPUs at the top of v1": (V1 + "useActiveGpu: true\n", "useActiveGpu", "Move it: useActiveGpu belongs into localC"),
    "a command at the top": (V1 + "command: x\n", "command", "Move it: command belongs into trial"),
    "processors on local": (
        V1 + "  cpuNum: 1\n", "trial.cpuNum",
        "Remove it: it belongs to other platforms (kubeflow, frameworkcontroller, pai); known here: codeDir",
    ),
    "a name of the other format": (V2 + "  gpuNum: 1\n", "trainingService.gpuNum", "Write trialGpuNumber"),
    "a platform": (V1.replace("local", "Local"), "trainingServicePlatform", "Write local"),
    "a section left empty": (V1.replace("trial:\n", "trial:\n#").replace("  codeDir", "#").replace("  gpuNum", "#"),
                             "trial", "Indent its keys below it"),
}  # fmt: skip


@pytest.mark.parametrize(("config", "field", "remedy"), REMEDIES.values(), ids=REMEDIES)
def test_the_remedy_says_what_to_write(folder: Path, config: str, field: str, remedy: str) -> None:
    assert remedy_of(folder, config, field).startswith(remedy)


def test_a_file_without_a_single_blank_is_told_so(folder: Path) -> None:
    (problem,) = problems_of(folder, "authorName:me\ntrialConcurrency:2\n")

    assert problem.remedy == f"{BLANK}: authorName: me, trialConcurrency: 2"


@pytest.mark.parametrize(
    ("text", "line", "field", "remedy"),
    [
        ('{"lr": {"_type": "uniform",\n "_value": [1]}}', 2, "lr._value", "Write two numbers, [low, high]"),
        ('{"lr": {"_type": "uniform",\n "_value": [0, 1, 2]}}', 2, "lr._value", "Write 2 numbers, or use quniform"),
        ('{"a": {"_type": "randint", "_value": [0, 2]},\n\n"lr": {"_type": "unifrom"}}', 3, "lr", 'Write {"_type'),
        ('{"lr":\n {"_type": "unifrom", "_value": [1, 2]}}', 2, "lr._type", "Write uniform"),
        ('{"lr":\n {_type:uniform, _value: [1, 2]}}', 1, "lr", f"{BLANK}: _type: uniform"),
        ("lr:\n  _type: choice\n  _value:\n  - 1\n  - 2020-01-02\n", 5, "lr/_value", "YAML reads 2020-01-02 as a date"),
        (
            '{"l": {"_type": "choice", "_value": [{"_name": "a",\n"k": {"_type": "uniform", "_value": [2, 1]}}]}}',
            2, "l/a/k._value", "Swap the two",
        ),
        ('{"lr": {"_type": "uniform",\n "_value": [0, 1}}', 2, "", "Put a comma between two values, and close"),
        ('{"lr": {"_type": "uniform"\n "_value": [0, 1]}}', 2, "", "Put a comma between two values"),
        ('{"lr": 1,\n "b" 2}', 2, "", "Put a colon between a key and its value"),
        ('// why\n{"lr": 1}', 2, "", "Begin comments with #"),
        ('{"lr": 1} // why', 1, "", "Begin comments with #"),
        ('{"lr": 1,\n"lr": 2}', 2, "", ""),
    ],
)  # fmt: skip
def test_a_problem_of_a_search_space_has_its_line(
    folder: Path, text: str, line: int, field: str, remedy: str
) -> None:
    (folder / "space.json").write_text(text)

    (problem,) = problems_of(folder, V1)

    assert (problem.file, problem.line, problem.field) == (str(folder / "space.json"), line, field)
    assert problem.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("encoding", "text", "name"),
    [
        ("gbk", "\u5b9e\u9a8c", "GBK"),
        ("latin-1", "M\u00fcller caf\u00e9", "Latin-1 (ISO-8859-1)"),
        ("utf-16", "\u5b9e\u9a8c", "UTF-16"),
    ],
)
def test_a_file_of_another_encoding_is_told_its_name_and_how_to_convert_it(
    folder: Path, encoding: str, text: str, name: str
) -> None:
    (folder / "space.json").write_bytes(f'# {text}\n{SPACE}'.encode(encoding))

    (problem,) = problems_of(folder, V1)

    assert (problem.rule, problem.line) == (f"must be UTF-8 text; it seems to be {name}", 1)
    assert "iconv -f" in problem.remedy


def test_a_date_among_the_arguments_of_a_class_is_to_be_put_in_quotes(folder: Path) -> None:
    (folder / "mine.py").write_text("class Mine: pass\n")
    own = "  className: mine.Mine\n  codeDirectory: .\n  classArgs: {since: 2020-01-02}\n"

    remedy = remedy_of(folder, V2.replace("  name: TPE\n", own), "tuner.classArgs")

    assert remedy == 'YAML reads 2020-01-02 as a date: write "2020-01-02"'


def test_a_file_that_is_no_text_is_told_so(folder: Path) -> None:
    (folder / "space.json").write_bytes(b"\x00\x80\x81")

    (problem,) = problems_of(folder, V1)

    assert (problem.rule, problem.remedy) == ("must be UTF-8 text; byte 1 is 0x80", "Is this the right file?")
