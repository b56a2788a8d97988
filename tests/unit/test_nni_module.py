from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trialflow.metrics import MetricsTail
from trialflow.training.local import SDK_FOLDER

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


def test_what_is_no_number_is_refused_with_its_type(tmp_path: Path) -> None:
    done = run_trial("import nni; nni.report_final_result(object())", tmp_path, **in_experiment(tmp_path))
    assert done.returncode == 1
    assert "must be a number" in done.stderr
    assert "got object" in done.stderr


def test_outside_of_an_experiment_metrics_are_printed(tmp_path: Path) -> None:
    done = run_trial("import nni; print(nni.get_next_parameter()); nni.report_final_result(1)", tmp_path)
    assert done.stdout.splitlines() == ["{}", "nni: final metric 0: 1"]


@pytest.mark.parametrize(("forced", "version"), [("auto", "real"), ("own", "ours")])
def test_an_installed_nni_wins_unless_ours_is_forced(tmp_path: Path, forced: str, version: str) -> None:
    (tmp_path / "site" / "nni").mkdir(parents=True)
    (tmp_path / "site" / "nni" / "__init__.py").write_text("__version__ = 'real'\n")
    path = os.pathsep.join([str(SDK_FOLDER), str(tmp_path / "site")])
    code = "import nni; print(getattr(nni, '__version__', 'ours'))"
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
