"""Measures the CPU that Trialflow's own bookkeeping takes per trial, without Airflow, jobs and tuners that think.

Usage: python bench/bookkeeping.py [TRIALS]. Each figure is the CPU time of this process alone.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from trialflow.experiment.running import ExperimentSteps
from trialflow.records import AlgorithmSpec, Metric, MetricType, Outcome, Slot, Trial, TrialStatus
from trialflow.settings import Settings
from trialflow.testing import make_spec
from trialflow.training.local import LocalTrainingService

METRICS = (0, 100)


class NoJobs(LocalTrainingService):
    """Takes every job, and starts none."""

    def submit(self, request: object) -> None:
        pass


def measure(home: Path, trials: int, metrics: int) -> tuple[float, float]:
    """CPU milliseconds per trial, from the suggestion to the report, and those of the end of the experiment."""
    spec = make_spec(
        search_space={name: {"_type": "uniform", "_value": [0, 1]} for name in "abcd"},
        tuner=AlgorithmSpec("Random"),
        trial_concurrency=1,
        max_trial_number=trials + 1,
    )
    steps = ExperimentSteps.create("bench", spec, Settings(home=home, store=""))
    steps.context.training = NoJobs()
    steps.context.store.set_code_folder("bench", str(home))
    steps.context.refresh()
    steps.start()
    live_a_trial(steps, 0, metrics)  # Loads what is loaded once.
    began = time.process_time()
    for index in range(1, trials + 1):
        live_a_trial(steps, index, metrics)
    ended = time.process_time()
    steps.conclude()
    return 1000 * (ended - began) / trials, 1000 * (time.process_time() - ended) / trials


def live_a_trial(steps: ExperimentSteps, index: int, metrics: int) -> None:
    """What the four tasks of a trial write."""
    store = steps.context.store
    trial = steps.trials.suggest(Slot(1, index), "bench")
    assert isinstance(trial, Trial), trial
    steps.trials.hand_over(trial)
    store.set_running(trial, time.time())
    found = [Metric(MetricType.PERIODICAL, step, step / 2, time.time()) for step in range(metrics)]
    store.add_metrics(trial, [*found, Metric(MetricType.FINAL, 0, 0.5, time.time())])
    store.set_ended(trial, Outcome(TrialStatus.SUCCEEDED, 0), index / 7)
    steps.trials.report(store.get_trial("bench", trial.id))


def main() -> None:
    """Print a line per number of metrics."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    for metrics in METRICS:
        with tempfile.TemporaryDirectory() as home:
            per_trial, end = measure(Path(home), trials, metrics)
        what = f"{trials} trials, {metrics:3} intermediate metrics"
        print(f"{what}: {per_trial:.1f} ms CPU per trial, and at the end {end:.1f}")


if __name__ == "__main__":
    main()
