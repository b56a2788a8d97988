"""GPUs of local trials, on a fake NVML: who gets which, who waits, and that no crash lets two have the same one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trialflow.testing
from trialflow.errors import BusyError, ConfigError
from trialflow.experiment.loading import load_experiment
from trialflow.experiment.running import ExperimentSteps, TrialWatch
from trialflow.records import Trial, TrialStatus
from trialflow.settings import Settings
from trialflow.training import JobRequest
from trialflow.training.local import LocalTrainingService
from trialflow.training.local.gpus import Gpu, GpuWish, find_shortage, list_gpus

FAKE = Path(trialflow.testing.__file__).parent / "fake_nvml"
HOLDS = 'echo "$CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER"; while [ ! -e "$NNI_OUTPUT_DIR/go" ]; do sleep 0.05; done'
CHECK = Path(__file__).parents[2] / "scripts/check_gpus.py"


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Sets the processes on each GPU of the fake; at first there are four GPUs without any."""
    monkeypatch.syspath_prepend(str(FAKE))
    monkeypatch.setenv("PYTHONPATH", str(FAKE), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_NVML", str(tmp_path / "nvml.json"))

    def set_processes(*pids: list[int]) -> None:
        (tmp_path / "nvml.json").write_text(json.dumps(pids))

    set_processes([], [], [], [])
    return set_processes


class Lab:
    """A machine with jobs on it, ended with the test."""

    def __init__(self, folder: Path) -> None:
        self.service = LocalTrainingService(Settings(home=folder / "home"))
        self.folder = folder
        self.requests: list[JobRequest] = []

    def start(self, **training: Any) -> JobRequest:
        number = len(self.requests)
        place = self.folder / "trials" / f"t{number}"
        section = self.service.read_section({"command": HOLDS, **training})
        request = JobRequest("exp", f"t{number}", number, 1, {}, section, "/", str(place))
        self.requests.append(request)
        self.service.submit(request)
        return request

    def seen(self, request: JobRequest) -> str:
        stdout = Path(request.folder) / "stdout"
        while not stdout.exists() or not stdout.read_text().endswith("\n"):
            time.sleep(0.01)
        return stdout.read_text().strip()

    def end(self, request: JobRequest) -> None:
        (Path(request.folder) / "go").touch()
        while self.service.poll(self.service.handle(request)).outcome is None:
            time.sleep(0.01)
        self.service.cancel(self.service.handle(request))


@pytest.fixture
def lab(tmp_path: Path) -> Any:
    made = Lab(tmp_path)
    yield made
    for request in made.requests:
        made.service.cancel(made.service.handle(request))


def test_each_trial_gets_gpus_of_its_own_and_the_next_one_waits_for_them(lab: Lab) -> None:
    first, second = lab.start(gpuNum=2), lab.start(gpuNum=1)
    assert (lab.seen(first), lab.seen(second)) == ("0,1 PCI_BUS_ID", "2 PCI_BUS_ID")
    with pytest.raises(BusyError, match="waits for 2 free GPUs, and 1 of them is free"):
        lab.start(gpuNum=2)
    lab.end(first)
    lab.service.submit(lab.requests[-1])
    assert lab.seen(lab.requests[-1]) == "0,1 PCI_BUS_ID"


def test_a_job_that_is_submitted_again_keeps_its_gpu(lab: Lab) -> None:
    request = lab.start(gpuNum=1)
    lab.service.submit(request)
    assert lab.seen(request) == "0 PCI_BUS_ID"
    assert lab.seen(lab.start(gpuNum=3)) == "1,2,3 PCI_BUS_ID"


def test_the_smallest_limit_of_all_who_share_a_gpu_holds(lab: Lab) -> None:
    shares = {"gpuNum": 1, "gpuIndices": [1], "maxTrialNumPerGpu": 2}
    assert [lab.seen(lab.start(**shares)) for _ in range(2)] == ["1 PCI_BUS_ID"] * 2
    with pytest.raises(BusyError, match="waits for 1 free GPU of 1, and none of them is free"):
        lab.start(**shares)
    with pytest.raises(BusyError):
        lab.start(**{**shares, "maxTrialNumPerGpu": 1})
    alone = lab.start(gpuNum=1, gpuIndices=[2])
    assert lab.seen(alone) == "2 PCI_BUS_ID"
    with pytest.raises(BusyError):
        lab.start(**{**shares, "gpuIndices": [2]})


def test_a_gpu_on_which_others_run_is_passed_over_unless_it_may_be_used(
    lab: Lab, gpus: Callable[..., None]
) -> None:
    gpus([4711], [])
    assert lab.seen(lab.start(gpuNum=1)) == "1 PCI_BUS_ID"
    with pytest.raises(BusyError):
        lab.start(gpuNum=1)
    assert lab.seen(lab.start(gpuNum=1, useActiveGpu=True)) == "0 PCI_BUS_ID"


def test_the_processes_of_a_trial_are_no_others(lab: Lab, gpus: Callable[..., None]) -> None:
    lab.start(gpuNum=1, maxTrialNumPerGpu=2, gpuIndices=[0])
    gpus([1234], [4711])
    assert lab.seen(lab.start(gpuNum=1, maxTrialNumPerGpu=2)) == "0 PCI_BUS_ID"


def test_a_trial_that_lost_its_lock_and_lives_still_holds_its_gpu(lab: Lab) -> None:
    request = lab.start(gpuNum=4)
    lab.seen(request)
    (Path(request.folder) / "lock").unlink()
    with pytest.raises(BusyError):
        lab.start(gpuNum=1)


def test_a_lease_whose_starter_died_before_the_job_began_holds_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_spawn", lambda *_args, **_options: sys.exit(9))
        with pytest.raises(SystemExit):
            lab.start(gpuNum=4)
    assert lab.seen(lab.start(gpuNum=4)) == "0,1,2,3 PCI_BUS_ID"


@pytest.mark.parametrize(
    ("wish", "rule"),
    [
        (GpuWish(3), "asks for 3 GPUs of 2; "),
        (GpuWish(2, (1,)), "asks for 2 GPUs of 1; "),
        (GpuWish(1, (0, 7)), r"names GPUs that are not there: \[7\]; "),
    ],
)
def test_more_than_the_machine_has_is_a_shortage(wish: GpuWish, rule: str) -> None:
    with pytest.raises(AssertionError, match=rule):
        raise AssertionError(find_shortage(wish, [Gpu(0, False), Gpu(1, True)]))
    assert find_shortage(GpuWish(2), [Gpu(0, False), Gpu(1, True)]) == ""


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAKE_NVML")
    assert list_gpus() == []


@pytest.mark.parametrize(("script", "found"), [("exit 9", []), (None, [])])
def test_a_machine_without_nvml_is_asked_by_nvidia_smi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, found: list[Gpu]
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if script:
        write_program(tmp_path / "nvidia-smi", script)
    assert list_gpus() == found


def test_nvidia_smi_tells_which_gpus_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    write_program(
        tmp_path / "nvidia-smi",
        'case "$1" in --query-gpu=*) echo "0, GPU-a"; echo "1, GPU-b";; *) echo GPU-b; echo GPU-b;; esac',
    )
    assert list_gpus() == [Gpu(0, False), Gpu(1, True)]


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


# ── experiments ──────────────────────────────────────────────────────────────────────────────────────────────────

CONFIG: dict[str, Any] = {
    "experimentName": "gpus",
    "trialCommand": "python3 trial.py",
    "searchSpace": {"x": {"_type": "uniform", "_value": [0, 1]}},
    "trialConcurrency": 8,
    "maxTrialNumber": 8,
    "tuner": {"name": "Random"},
}
# Notes when it holds which GPU, on a clock that all processes share.
TRIAL = """
import os, time, nni
nni.get_next_parameter()
begun = time.monotonic()
time.sleep(0.4)
with open(os.environ["NOTES"], "a") as file:
    file.write(f"{os.environ['CUDA_VISIBLE_DEVICES']} {begun} {time.monotonic()} {os.environ['NNI_TRIAL_JOB_ID']}\\n")
nni.report_final_result(1)
"""


def write_experiment(folder: Path, service: dict[str, Any], **changes: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "trial.py").write_text(TRIAL)
    config = {**CONFIG, "trainingService": {"platform": "local", **service}, **changes}
    (folder / "config.yml").write_text(json.dumps(config))
    return folder / "config.yml"


def test_an_experiment_that_asks_for_more_than_there_is_is_refused_before_its_first_trial(tmp_path: Path) -> None:
    config = write_experiment(tmp_path / "project", {}, trialGpuNumber=5)
    with pytest.raises(ConfigError, match=r"trialGpuNumber: asks for 5 GPUs of 4; .* has the GPUs"):
        load_experiment(str(config), Settings(home=tmp_path / "home"))


def test_a_trial_that_finds_no_gpu_free_waits_and_says_so(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.setattr("trialflow.experiment.running.watch._RESUBMIT_SECONDS", 0.1)
    holder = lab.start(gpuNum=4)
    settings = Settings(home=tmp_path / "home", waiting_limit_seconds=0.01)
    config = write_experiment(tmp_path / "project", {}, trialGpuNumber=1)
    steps = ExperimentSteps.create("expgpuaa", load_experiment(str(config), settings), settings)
    steps.stage_code()
    steps.start()
    trial = steps.trials.suggest(steps.plan_batch(1, "run")[0], "run")
    assert isinstance(trial, Trial)
    watch = TrialWatch(steps.context, trial)
    for _ in range(5):
        assert watch.poll() is None
        time.sleep(0.1)
    waiting = steps.context.store.get_trial(steps.context.id, trial.id)
    assert waiting.reason == "it waits for 1 free GPU, and none of them is free"

    lab.end(holder)
    while (ended := watch.poll()) is None:
        time.sleep(0.02)
    assert steps.trials.report(ended).status is TrialStatus.SUCCEEDED


# Does what the tasks of a worker do, for one experiment.
WORKER = """
import sys, time
from trialflow.experiment.running import ExperimentContext, ExperimentSteps, TrialWatch
from trialflow.experiment.running import watch as module
from trialflow.records import Trial
module._RESUBMIT_SECONDS = 0.1
steps = ExperimentSteps(ExperimentContext(sys.argv[1]))
watches = {}
while True:
    for slot in steps.plan_batch(1, "run"):
        trial = steps.trials.suggest(slot, "run")
        if isinstance(trial, Trial) and trial.reported_at is None and trial.id not in watches:
            watches[trial.id] = TrialWatch(steps.context, trial)
    for id, watch in list(watches.items()):
        ended = watch.poll()
        if ended is not None:
            steps.trials.report(ended)
            del watches[id]
    store, id = steps.context.store, steps.context.id
    if store.count_live(id) == 0 and len(store.list_trials(id)) == 8:
        break
    time.sleep(0.05)
"""


@pytest.mark.parametrize("limit", [1, 2])
def test_two_experiments_never_share_a_gpu_beyond_the_limit_however_often_their_workers_die(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    home, notes = tmp_path / "home", tmp_path / "notes"
    monkeypatch.setenv("NOTES", str(notes))
    monkeypatch.setenv("TRIALFLOW_HOME", str(home))
    settings = Settings(home=home)
    ids = ["expgpuaa", "expgpubb"]
    for experiment_id in ids:
        config = write_experiment(tmp_path / experiment_id, {"maxTrialNumberPerGpu": limit}, trialGpuNumber=1)
        steps = ExperimentSteps.create(experiment_id, load_experiment(str(config), settings), settings)
        steps.stage_code()
        steps.start()

    chance = random.Random(limit)
    workers = {experiment_id: start_worker(experiment_id) for experiment_id in ids}
    kills, deadline = 0, time.monotonic() + 120
    while any(worker.poll() is None for worker in workers.values()):
        assert time.monotonic() < deadline
        time.sleep(chance.uniform(0.2, 1.5))
        victim = chance.choice(ids)
        if workers[victim].poll() is None and kills < 8:
            workers[victim].send_signal(signal.SIGKILL)
            workers[victim].wait()
            workers[victim] = start_worker(victim)
            kills += 1

    assert [worker.returncode for worker in workers.values()] == [0, 0]
    trials = [line.split() for line in notes.read_text().splitlines()]
    assert Counter(trial[3] for trial in trials) == {trial[3]: 1 for trial in trials}
    assert len(trials) == 16
    assert 1 <= most_at_once(trials) <= limit
    assert kills


def start_worker(experiment_id: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, experiment_id])


def most_at_once(trials: list[list[str]]) -> int:
    """How many trials held the busiest GPU at one time."""
    most = 0
    for gpu in {trial[0] for trial in trials}:
        times = [(float(begun), float(ended)) for held, begun, ended, _ in trials if held == gpu]
        most = max(most, *(sum(begun <= at < ended for begun, ended in times) for at, _ in times))
    return most


def test_the_script_for_machines_with_a_gpu_checks_the_same(tmp_path: Path) -> None:
    environment = {**os.environ, "FAKE_NVML": "[[], [4711]]"}
    done = subprocess.run([sys.executable, str(CHECK)], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "All is as it should be."), done.stdout + done.stderr
    environment["FAKE_NVML"] = ""
    failed = subprocess.run([sys.executable, str(CHECK)], env=environment, capture_output=True, text=True, check=False)
    assert (failed.returncode, "no GPU was found" in failed.stdout) == (1, True)
