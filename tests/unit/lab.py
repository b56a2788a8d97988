"""Experiments on this machine for the tests, and the steps of their trials as the DAG's tasks take them."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from sqlalchemy.pool import NullPool

from trialflow.experiment.running import ExperimentContext, ExperimentSteps, TrialWatch
from trialflow.experiment.showing.study import StudySource, write_study
from trialflow.records import AlgorithmSpec, Slot, Trial
from trialflow.settings import Settings
from trialflow.store import ClaimRefusal
from trialflow.testing import make_spec

if TYPE_CHECKING:
    from collections.abc import Mapping

RUN = "run-1"
TIMEOUT_SECONDS = 90
GOOD = """import nni
x = nni.get_next_parameter()["x"]
for step in range(3):
    nni.report_intermediate_result(x + step)
nni.report_final_result(x)
"""

# A file that is right, for tests that put something wrong beside it, or into it.
EXPERIMENT = """experimentName: a
authorName: b
trialConcurrency: 1
maxTrialNum: 2
trainingServicePlatform: local
searchSpacePath: s.json
tuner: {builtinTunerName: TPE}
trial: {command: x, codeDir: ., gpuNum: 0}
"""


def make_steps(
    home: Path, code: str = GOOD, *, files: Mapping[str, str] | None = None, settings: Settings | None = None,
    **changes: Any,
) -> ExperimentSteps:  # fmt: skip
    """An experiment that lets trials be claimed.

    Args:
        home: Where it lies.
        code: What each trial runs.
        files: Name → what stands in it, beside the code.
        settings: By default a batch has four trials.
        changes: What differs from `make_spec`, whose tuner is TPE here.
    """
    folder = home / "code"
    folder.mkdir(parents=True)
    for name, text in {"trial.py": code, **(files or {})}.items():
        (folder / name).write_text(text)
    spec = make_spec(
        code_directory=str(folder),
        code_root=str(folder),
        **{"tuner": AlgorithmSpec("TPE"), "training": {"command": f"{sys.executable} trial.py"}, **changes},
    )
    steps = ExperimentSteps.create("expaaaaa", spec, settings or Settings(home=home, batch_size=4))
    steps.stage_code()
    steps.start()
    return steps


def waiting_for(gate: Path, code: str = GOOD) -> str:
    """A trial that goes on when the file is there, or after a minute, for a test that fails leaves it behind."""
    wait = f"while not os.path.exists({str(gate)!r}) and time.time() < end:\n    time.sleep(0.02)\n"
    return f"import os, time\nend = time.time() + 60\n{wait}{code}"


def again(steps: ExperimentSteps) -> ExperimentSteps:
    """The same experiment, as another process sees it."""
    return ExperimentSteps(ExperimentContext(steps.context.id, steps.context.settings))


def suggest(steps: ExperimentSteps, index: int = 0) -> Trial:
    """A suggestion that has to succeed."""
    trial = steps.trials.suggest(Slot(1, index), RUN)
    assert isinstance(trial, Trial), trial
    return trial


def follow(steps: ExperimentSteps, trial: Trial) -> Trial:
    """Follow a trial to its end, without reporting it."""
    return run_to_end(TrialWatch(steps.context, trial))


def run_to_end(watch: TrialWatch) -> Trial:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (ended := watch.poll()) is None:
        assert time.monotonic() < deadline, watch.trial.label
        time.sleep(0.02)
    return ended


def live_a_trial(steps: ExperimentSteps, slot: Slot, run_id: str) -> Trial | ClaimRefusal:
    """The four tasks of a slot, each with steps of its own, as in Airflow."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (answer := again(steps).trials.suggest(slot, run_id)) in (ClaimRefusal.NO_ROOM, ClaimRefusal.GIVE_WAY):
        assert time.monotonic() < deadline, slot
        time.sleep(0.05)
    if isinstance(answer, ClaimRefusal):
        return answer
    return again(steps).trials.report(follow(again(steps), again(steps).trials.hand_over(answer)))


def live(steps: ExperimentSteps) -> list[Trial | ClaimRefusal]:
    """All batches of an experiment, the slots of a batch in threads."""
    answers: list[Trial | ClaimRefusal] = []
    batch: int | None = 1
    while batch is not None:
        run_id = f"run-{batch}"
        slots = steps.plan_batch(batch, run_id)
        with ThreadPoolExecutor(len(slots)) as pool:
            answers += pool.map(lambda slot, run_id=run_id: live_a_trial(steps, slot, run_id), slots)
        batch = steps.plan_next_batch(batch, f"run-{batch + 1}")
    return answers


def study_of(steps: ExperimentSteps) -> optuna.Study:
    """The study, brought up to date with the ledger first."""
    store, name = steps.context.store, steps.context.id
    write_study(StudySource.read(store, name), store.url)
    # No connection is kept, for nobody would close it.
    storage = optuna.storages.RDBStorage(store.url, engine_kwargs={"poolclass": NullPool})
    return optuna.load_study(study_name=name, storage=storage)


def states_of(steps: ExperimentSteps) -> list[str]:
    """The state of every trial in the study, in order."""
    return [trial.state.name for trial in study_of(steps).get_trials(deepcopy=False)]


def processes_of(steps: ExperimentSteps) -> list[int]:
    """Every process of the experiment's jobs."""
    mark = f"NNI_SYS_DIR={steps.context.experiment.folder}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found
