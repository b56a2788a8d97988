"""The tests of the rules that must never break, tested: with the rule broken, they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import trialflow

PACKAGE = Path(trialflow.__file__).parent
TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Mutation:
    """One rule broken: ``old`` becomes ``new``, and the selected tests have to see it."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    select: str


MUTATIONS = [
    Mutation(
        "the cap lets one more in",
        "store/claims.py",
        'if live >= row["trial_concurrency"]:',
        'if live > row["trial_concurrency"]:',
        "test_store.py",
        "sqlite and the_cap_counts_trials",
    ),
    Mutation(
        "a claimed slot is not looked up",
        "store/claims.py",
        "if earlier is not None:",
        "if False:",
        "test_store.py",
        "sqlite and a_slot_is_claimed_once",
    ),
    Mutation(
        "one trial too many is created",
        "store/claims.py",
        'if created >= row["max_trial_number"]:',
        'if created > row["max_trial_number"]:',
        "test_store.py",
        "sqlite and no_more_trials_than_the_limit",
    ),
    Mutation(
        "a trial is reported again and again",
        "store/ledger.py",
        "trials.c.reported_at.is_(None), reported_at=time.time()",
        "sa.true(), reported_at=time.time()",
        "test_store.py",
        "sqlite and reported_once",
    ),
    Mutation(
        "an old attempt may still write",
        "store/ledger.py",
        "            trials.c.attempt == trial.attempt,\n",
        "",
        "test_store.py",
        "sqlite and older_attempt",
    ),
    Mutation(
        "the tuner is told again",
        "experiment/study.py",
        "states=(TrialState.RUNNING,)",
        "states=None",
        "test_experiment.py",
        "told_once_when_it_is_reported_twice",
    ),
    Mutation(
        "a job is started although it was cancelled before",
        "training/local.py",
        '        (folder / "started").touch()\n',
        "",
        "test_local_training.py",
        "cancelled_first",
    ),
]


def run_tests(package_parent: Path, file: str, select: str) -> subprocess.CompletedProcess[str]:
    """Run some tests on another copy of the package, which comes before the installed one on the path."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x", "-q", str(TESTS / file), "-k", select],
        cwd=TESTS.parents[1],
        env={**os.environ, "PYTHONPATH": str(package_parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def copy_package(folder: Path) -> Path:
    return Path(shutil.copytree(PACKAGE, folder / "trialflow", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_broken_rule_is_seen(mutation: Mutation, tmp_path: Path) -> None:
    path = copy_package(tmp_path) / mutation.file
    source = path.read_text(encoding="utf-8")
    assert source.count(mutation.old) == 1, f"the code of {mutation.file} has moved on: {mutation.old!r}"
    path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
    done = run_tests(tmp_path, mutation.tests, mutation.select)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "1 failed" in done.stdout
    assert " error" not in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("file", sorted({mutation.tests for mutation in MUTATIONS}))
def test_an_unbroken_copy_passes_the_same_tests(file: str, tmp_path: Path) -> None:
    copy_package(tmp_path)
    selected = [mutation.select for mutation in MUTATIONS if mutation.tests == file]
    done = run_tests(tmp_path, file, " or ".join(f"({select})" for select in selected))
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert f"{len(selected)} passed" in done.stdout
