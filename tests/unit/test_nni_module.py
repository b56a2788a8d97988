"""The `nni` that trial code imports: a file of its own that must run in any image with a Python."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trialflow.metrics import METRICS_FILE, MetricsTail
from trialflow.training.local import SDK_FOLDER

MODULE = SDK_FOLDER / "nni" / "__init__.py"
PARAMETERS = {"lr": 0.1, "layer": {"_name": "Conv", "k": 3}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A trial's folder with its parameters."""
    record = {"parameter_id": 7, "parameter_source": "algorithm", "parameters": PARAMETERS}
    (tmp_path / "parameter.cfg").write_text(json.dumps(record))
    return tmp_path


def run(code: str, folder: Path | None = None, *path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run trial code without site-packages and with nothing inherited; ``path`` comes after our module's folder."""
    trial = {}
    if folder is not None:
        trial = {
            "NNI_PLATFORM": "local",
            "NNI_EXP_ID": "exp12345",
            "NNI_TRIAL_JOB_ID": "abcde",
            "NNI_TRIAL_SEQ_ID": "3",
            "NNI_SYS_DIR": str(folder),
        }
    python_path = os.pathsep.join(str(entry) for entry in (SDK_FOLDER, *path))
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": python_path, **trial, **environment},
        cwd=os.path.sep,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def run_well(code: str, folder: Path | None = None, *path: Path, **environment: str) -> str:
    done = run(code, folder, *path, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_trial_gets_its_parameters_and_knows_who_it_is(folder: Path) -> None:
    said = run_well(
        "import nni, json; print(json.dumps([nni.get_next_parameter(), nni.get_current_parameter('lr'), "
        "nni.get_experiment_id(), nni.get_trial_id(), nni.get_sequence_id()]))",
        folder,
    )
    assert json.loads(said) == [PARAMETERS, 0.1, "exp12345", "abcde", 3]


def test_parameters_that_are_not_there_yet_are_waited_for(folder: Path) -> None:
    (folder / "parameter.cfg").rename(folder / "later")
    code = (
        "import nni, os, threading\n"
        "threading.Timer(0.5, os.rename, [{0!r} + '/later', {0!r} + '/parameter.cfg']).start()\n"
        "print(nni.get_next_parameter()['lr'])"
    ).format(str(folder))
    assert run_well(code, folder) == "0.1"


def test_reports_are_records_of_the_real_form(folder: Path) -> None:
    run_well(
        "import nni; nni.get_next_parameter(); nni.report_intermediate_result(0.5); "
        "nni.report_intermediate_result(0.6); nni.report_final_result({'default': 0.7, 'loss': 0.1})",
        folder,
    )
    tail = MetricsTail(folder / METRICS_FILE)
    found = [(metric.type.value, metric.sequence, metric.value) for metric in tail.read()]
    assert found == [("PERIODICAL", 0, 0.5), ("PERIODICAL", 1, 0.6), ("FINAL", 0, {"default": 0.7, "loss": 0.1})]
    assert (tail.skipped_bytes, tail.unfinished_bytes) == (0, 0)
    lines = (folder / METRICS_FILE).read_bytes().splitlines(keepends=True)
    assert int(lines[0][2:8]) == len(lines[0]) - 8
    assert json.loads(lines[1][8:]) == {
        "parameter_id": 7, "trial_job_id": "abcde", "type": "PERIODICAL", "sequence": 1, "value": "0.6",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("type('Numpy', (), {'item': lambda self: 0.25})()", 0.25),
        ("type('Tensor', (), {'numpy': lambda self: type('Numpy', (), {'item': lambda self: 2})()})()", 2),
        ("{'default': type('Numpy', (), {'item': lambda self: 0.25})()}", {"default": 0.25}),
    ],
)
def test_scalars_of_other_libraries_are_numbers(folder: Path, scalar: str, value: object) -> None:
    run_well(f"import nni; nni.report_final_result({scalar})", folder)
    assert [metric.value for metric in MetricsTail(folder / METRICS_FILE).read()] == [value]


@pytest.mark.parametrize(
    ("value", "message"),
    [("object()", "must be a number or a dict with the key 'default'; got object"), ("'x' * 1000000", "999999 bytes")],
)
def test_a_metric_that_cannot_be_written_is_an_error_with_its_rule(folder: Path, value: str, message: str) -> None:
    done = run(f"import nni; nni.report_final_result({value})", folder)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (folder / METRICS_FILE).exists()


def test_outside_of_an_experiment_a_trial_runs_by_hand() -> None:
    said = run_well(
        "import nni; print(nni.get_next_parameter(), nni.get_experiment_id(), nni.get_trial_id(), "
        "nni.get_sequence_id()); nni.report_intermediate_result(0.5); nni.report_final_result(1)"
    )
    assert said.splitlines() == [
        "{} STANDALONE STANDALONE 0",
        "nni: intermediate metric 0: 0.5",
        "nni: final metric 0: 1",
    ]


@pytest.mark.parametrize(("sdk", "file"), [("auto", "real"), ("own", "own")])
def test_an_installed_nni_is_preferred_unless_told_otherwise(tmp_path: Path, sdk: str, file: str) -> None:
    (tmp_path / "nni").mkdir()
    (tmp_path / "nni" / "__init__.py").write_text("from nni.part import WHO\n")
    (tmp_path / "nni" / "part.py").write_text("WHO = 'real'\n")
    said = run_well("import nni; print(getattr(nni, 'WHO', 'own'))", None, tmp_path, TRIALFLOW_TRIAL_SDK=sdk)
    assert said == file


def test_a_folder_that_happens_to_be_called_nni_is_no_installed_nni(tmp_path: Path) -> None:
    (tmp_path / "nni").mkdir()
    assert run_well("import nni; print(nni.get_trial_id())", None, tmp_path) == "STANDALONE"


def test_the_source_is_python_3_6_of_the_standard_library_only() -> None:
    tree = ast.parse(MODULE.read_text(encoding="utf-8"), feature_version=(3, 6))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"json", "os", "sys", "time", "importlib.machinery", "importlib.util"}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names
