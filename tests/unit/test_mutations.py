"""Breaks the code on purpose, to see that the tests that guard it fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trialflow

pytestmark = pytest.mark.slow

GUARDS = [Path(__file__).with_name(name) for name in ("lab.py", "test_once_only.py")]
# what → (file, text, the text that breaks it, the tests that must notice)
MUTATIONS: dict[str, tuple[str, str, str, str]] = {
    "the cap": (
        "claim_rules.py",
        "if state.taken < state.trial_concurrency and",
        "if state.taken <= state.trial_concurrency and",
        "never_claim_more_than_the_cap",
    ),
    "the limit of trials": (
        "claim_rules.py",
        "if state.created >= state.max_trial_number:",
        "if state.created > state.max_trial_number:",
        "no_room_then_no_trials_left",
    ),
    "one claim per slot": (
        "store/claims.py",
        "if earlier is not None:",
        "if earlier is not None and created_anew:",
        "a_slot_is_claimed_once",
    ),
    "one ask per trial": (
        "experiment/running/trials.py",
        "            if trial.parameters is None and trial.ended_at is None:\n",
        "            if trial.ended_at is None:\n",
        "behind_the_ask",
    ),
    "a result counts, and frees its place": (
        "experiment/running/trials.py",
        "        self._store.set_reported(trial)\n",
        "",
        "no_room_then_no_trials_left or between_telling",
    ),
}


@pytest.mark.parametrize("name", list(MUTATIONS))
def test_a_broken_guard_makes_a_test_fail(name: str, tmp_path: Path) -> None:
    file, text, broken, selection = MUTATIONS[name]
    package = tmp_path / "trialflow"
    shutil.copytree(Path(trialflow.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    source = (package / file).read_text()
    assert source.count(text) == 1, f"{file} has changed; find another way to break {name}"
    (package / file).write_text(source.replace(text, broken))

    tests = tmp_path / "guards"
    tests.mkdir()
    (tests / "__init__.py").touch()
    for file_of_tests in GUARDS:
        shutil.copy(file_of_tests, tests)
    command = [sys.executable, "-m", "pytest", str(tests), "-k", selection, "-q", "-x", "-p", "no:cacheprovider"]
    command.append(f"--basetemp={tmp_path / 'base'}")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert " failed" in done.stdout
