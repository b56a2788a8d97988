from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trialflow.metrics import MetricsTail, read_number
from trialflow.sdk import SDK_FOLDER

SOURCE = SDK_FOLDER / "nni" / "__init__.py"


def run_trial(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SDK_FOLDER), **environment}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=clean, capture_output=True, text=True, check=False
    )


def in_experiment(folder: Path) -> dict[str, str]:
    record = {"parameter_id": 7, "parameter_source": "algorithm", "parameters": {"x": 0.5, "y": "a"}}
    (folder / "parameter.cfg").write_text(json.dumps(record))
    names = {"NNI_PLATFORM": "local", "NNI_EXP_ID": "expid", "NNI_TRIAL_JOB_ID": "abcde", "NNI_TRIAL_SEQ_ID": "7"}
    return {**names, "NNI_SYS_DIR": str(folder), "TRIALFLOW_TRIAL_SDK": "own"}


def test_a_trial_gets_its_parameters_and_its_metrics_arrive(tmp_path: Path) -> None:
    code = """
import nni
assert nni.get_next_parameter() == {"x": 0.5, "y": "a"}
assert nni.get_next_parameters() == nni.get_next_parameter()
assert nni.get_current_parameter("y") == "a"
assert (nni.get_experiment_id(), nni.get_trial_id(), nni.get_sequence_id()) == ("expid", "abcde", 7)
class Scalar:
    def item(self): return 0.25
nni.report_intermediate_result(0.1)
nni.report_intermediate_result(Scalar())
nni.report_final_result({"default": Scalar(), "name": "ü"})
"""
    done = run_trial(code, tmp_path, **in_experiment(tmp_path))
    assert done.returncode == 0, done.stderr
    found = MetricsTail(tmp_path, tmp_path / ".nni" / "metrics").read()
    assert [metric.value for metric in found] == [0.1, 0.25, {"default": 0.25, "name": "ü"}]


def test_arrays_beside_the_default_arrive_as_lists(tmp_path: Path) -> None:
    code = """
import nni, numpy
class Tensor:
    def numpy(self): return numpy.array([0.5, 1.5])
class Scalar:
    def item(self): return 3
metric = {"default": numpy.float32(0.5), "cm": numpy.array([[1, 2], [3, 4]]), "t": [Tensor()], "s": Scalar()}
nni.report_intermediate_result(metric)
nni.report_final_result({"default": numpy.array([0.5]), 7: numpy.int64(7), "nan": numpy.array([numpy.nan])})
"""
    done = run_trial(code, tmp_path, **in_experiment(tmp_path))
    assert done.returncode == 0, done.stderr
    first, last = (metric.value for metric in MetricsTail(tmp_path, tmp_path / ".nni" / "metrics").read())
    assert first == {"default": 0.5, "cm": [[1, 2], [3, 4]], "t": [[0.5, 1.5]], "s": 3}
    assert (last["default"], last["7"], last["nan"]) == (0.5, 7, ["nan"])


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        ("{'default': 1, 'best': {'epochs': {1, 2}}}", "the metric's key 'best' cannot be written as JSON: got set"),
        ("{'default': object()}", "the metric's key 'default' cannot be written as JSON: a metric must be"),
        ("{'default': 1, 'by': {(1, 2): 3}}", "the metric's key 'by' cannot be written as JSON: keys must be str"),
    ],
)
def test_what_cannot_be_written_is_named_by_its_key(tmp_path: Path, metric: str, sentence: str) -> None:
    done = run_trial(f"import nni, numpy; nni.report_final_result({metric})", tmp_path, **in_experiment(tmp_path))
    assert (done.returncode, sentence in done.stderr) == (1, True), done.stderr


def test_an_array_of_several_numbers_is_reported_and_is_no_result(tmp_path: Path) -> None:
    code = """
import nni, numpy
nni.report_intermediate_result(numpy.eye(2))
nni.report_final_result({"default": numpy.zeros((1, 2)), "by": [numpy.eye(2)]})
"""
    done = run_trial(code, tmp_path, **in_experiment(tmp_path))

    assert done.returncode == 0, done.stderr
    first, last = (metric.value for metric in MetricsTail(tmp_path, tmp_path / ".nni" / "metrics").read())
    assert first == [[1.0, 0.0], [0.0, 1.0]]
    assert last == {"default": [[0.0, 0.0]], "by": [[[1.0, 0.0], [0.0, 1.0]]]}
    assert read_number(last) == (None, "the metric is a list, not a number")


def test_what_is_no_number_is_refused_with_its_type(tmp_path: Path) -> None:
    done = run_trial("import nni; nni.report_final_result(object())", tmp_path, **in_experiment(tmp_path))
    assert done.returncode == 1
    assert "must be a number" in done.stderr
    assert "got object" in done.stderr


def test_outside_of_an_experiment_metrics_are_printed(tmp_path: Path) -> None:
    done = run_trial("import nni; print(nni.get_next_parameter()); nni.report_final_result(1)", tmp_path)
    assert done.stdout.splitlines() == ["{}", "nni: final metric 0: 1"]


@pytest.mark.parametrize(("forced", "version"), [("auto", "real"), ("own", "3.0+trialflow")])
def test_an_installed_nni_wins_unless_ours_is_forced(tmp_path: Path, forced: str, version: str) -> None:
    (tmp_path / "site" / "nni").mkdir(parents=True)
    (tmp_path / "site" / "nni" / "__init__.py").write_text("__version__ = 'real'\n")
    path = os.pathsep.join([str(SDK_FOLDER), str(tmp_path / "site")])
    code = "import nni; print(nni.__version__)"
    done = run_trial(code, tmp_path, PYTHONPATH=path, TRIALFLOW_TRIAL_SDK=forced)
    assert done.stdout.strip() == version, done.stderr


def test_trial_code_merges_its_parameters_into_its_arguments(tmp_path: Path) -> None:
    code = """
import argparse, nni
from nni.utils import merge_parameter
arguments = argparse.Namespace(x=1.0, y="b", z=None)
print(vars(merge_parameter(arguments, nni.get_next_parameter())))
merge_parameter(argparse.Namespace(x=1.0), nni.get_next_parameter())
"""
    done = run_trial(code, tmp_path, **in_experiment(tmp_path))
    assert done.stdout == "{'x': 0.5, 'y': 'a', 'z': None}\n"
    assert "Key 'y' not found" in done.stderr


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import nni.compression", "ModuleNotFoundError: nni.compression is a part of NNI that Trialflow's module"),
        ("from nni import nas", "ModuleNotFoundError: nni.nas is a part of NNI that Trialflow's module nni does not"),
        ("from nni.experiment import Experiment", "ModuleNotFoundError: nni.experiment starts experiments, where Tri"),
        ("import nni; nni.training_update()", "AttributeError: nni.training_update is a part of NNI that Trialflow's"),
        ("import nni; nni.choice(1, 2)", "AttributeError: nni.choice stands in annotations only; take the value from"),
    ],
)
def test_what_is_missing_of_nni_says_so_and_what_to_do(tmp_path: Path, code: str, error: str) -> None:
    done = run_trial(code, tmp_path, TRIALFLOW_TRIAL_SDK="own")

    assert error in done.stderr


def test_code_that_can_do_without_a_part_of_nni_does(tmp_path: Path) -> None:
    code = """
import nni
try:
    import nni.retiarii
except ImportError:
    print(getattr(nni, "trace", "none"), hasattr(nni, "Experiment"))
from nni import *
"""
    assert run_trial(code, tmp_path, TRIALFLOW_TRIAL_SDK="own").stdout == "none False\n"


def test_the_module_nni_trial_is_the_same_trial(tmp_path: Path) -> None:
    code = """
import nni
assert nni.trial.get_next_parameter is nni.get_next_parameter
import nni.trial
from nni.trial import *
report_intermediate_result(nni.trial.get_current_parameter("x"))
nni.trial.report_final_result(1)
assert nni.utils.merge_parameter({"x": 1.0}, {"x": 2}) == {"x": 2}
"""
    done = run_trial(code, tmp_path, **in_experiment(tmp_path))
    assert done.returncode == 0, done.stderr
    assert [metric.value for metric in MetricsTail(tmp_path, tmp_path / ".nni" / "metrics").read()] == [0.5, 1]


@pytest.mark.parametrize("source", sorted(SOURCE.parent.rglob("*.py")), ids=str)
def test_the_module_is_python_3_6_and_standard_library_only(source: Path) -> None:
    tree = ast.parse(source.read_text(), feature_version=(3, 6))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }
    assert imported <= {"nni", *sys.stdlib_module_names}


DRAWS = """
import json, sys
import numpy
from nni import parameter_expressions as draw
from nni.utils import json2parameter, json2space, split_index
state = numpy.random.RandomState(0)
arguments = {"choice": [["a", "b"]], "randint": [3, 9], "uniform": [0, 1], "quniform": [2, 10, 5],
             "loguniform": [0.001, 1], "qloguniform": [1, 100, 3], "normal": [0, 1], "qnormal": [0, 9, 2],
             "lognormal": [0, 1], "qlognormal": [1, 1, 2]}
drawn = {kind: [getattr(draw, kind)(*given, state) for _ in range(200)] for kind, given in arguments.items()}
print(json.dumps({kind: [min(values), max(values), len(set(values))] for kind, values in drawn.items()}, default=str))
space = {"lr": {"_type": "uniform", "_value": [0, 1]}, "net": {"_type": "choice", "_value": [
    {"_name": "A", "k": {"_type": "randint", "_value": [3, 4]}}, {"_name": "B"}]}}
names = json2space(space)
first = json2parameter(space, dict.fromkeys(names, True), state)
again = json2parameter(space, {name: name == "root[lr]-uniform" for name in names}, state, first)
print(json.dumps([names, json2space(space, first), split_index(first)["net"], again["net"] == first["net"],
                  again["lr"] == first["lr"]]))
"""


def test_a_tuner_draws_as_with_nni(tmp_path: Path) -> None:
    done = run_trial(DRAWS, tmp_path, TRIALFLOW_TRIAL_SDK="own")
    assert done.returncode == 0, done.stderr
    drawn, (names, active, net, kept, same) = map(json.loads, done.stdout.splitlines())

    assert drawn["choice"] == ["a", "b", 2]
    assert drawn["randint"] == [3, 8, 6]
    assert drawn["quniform"] == [2, 10, 3]
    assert 0 <= drawn["uniform"][0] < drawn["uniform"][1] < 1
    assert 0.001 <= drawn["loguniform"][0] < 0.01
    assert 0.5 < drawn["loguniform"][1] <= 1
    assert (drawn["qloguniform"][0], drawn["qloguniform"][1] % 3) == (1, 0)
    assert drawn["normal"][0] < -2
    assert drawn["normal"][1] > 2
    assert (drawn["qnormal"][0] % 2, drawn["lognormal"][0] > 0, drawn["qlognormal"][1] % 2) == (0, True, 0)
    every = ["root[lr]-uniform", "root[net]-choice[0][k]-randint", "root[net]-choice"]
    assert names == every
    assert active == (every if net["_name"] == "A" else [every[0], every[2]])
    assert net in ({"_name": "A", "k": 3}, {"_name": "B"})
    assert (kept, same) == (True, False)


def test_class_arguments_are_checked_as_with_nni(tmp_path: Path) -> None:
    code = """
from nni.utils import ClassArgsValidator
checks = ClassArgsValidator()
assert checks.choices("mode", "a", "b").validate("b") == "b"
assert checks.range("count", int, 1, 9).validate(9) == 9
for check, value in [(checks.choices("mode", "a", "b"), "c"), (checks.range("count", int, 1, 9), 10)]:
    try:
        check.validate(value)
    except ValueError as error:
        print(error)
"""
    done = run_trial(code, tmp_path, TRIALFLOW_TRIAL_SDK="own")
    rules = ["mode must be one of ['a', 'b']; got 'c'", "count must be of type int, from 1 to 9; got 10"]
    assert done.stdout.splitlines() == rules, done.stderr
