"""kill -9 of what carries experiments, each time in the middle of six running trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.airflow.conftest import Run, kill_component, wait_until
from tests.cluster.dag.lab import ClusterLab
from tests.cluster.own import OwnCluster
from trialflow.records import Trial, TrialStatus

ALIVE, TRIALS = 6, 10


@dataclass
class Six:
    """An experiment of which six trials run, until one is let go and another one takes its place."""

    lab: ClusterLab
    run: Run

    def wait(self) -> dict[str, str]:
        """Wait until six trials run, and have their jobs: name → uid."""
        self.lab.wait_for_running(self.run, ALIVE)
        return self.lab.jobs(self.run)

    def end_one(self) -> Trial:
        """Let the oldest one go, and wait until it is reported; gives it."""
        oldest = next(trial for trial in self.run.trials if trial.status is TrialStatus.RUNNING)
        self.lab.release(self.run, oldest.number)
        return self.wait_for_report(oldest)

    def wait_for_report(self, trial: Trial) -> Trial:
        """Wait until the tuner knows a trial."""

        def reported() -> Trial | None:
            now = self.run.lab.store.get_trial(trial.experiment_id, trial.id)
            return now if now.reported_at is not None else None

        ended: Trial = wait_until(reported, f"trial {trial.label} to be reported", 180)
        return ended


@pytest.fixture(scope="module")
def six(lab: ClusterLab, tmp_path_factory: pytest.TempPathFactory) -> Six:
    folder = tmp_path_factory.mktemp("deaths") / "six"
    return Six(lab, lab.start(folder, trialConcurrency=ALIVE, maxTrialNum=TRIALS))


@pytest.mark.parametrize("part", ["apiserver", "operator", "triggerer", "scheduler"])
def test_six_running_trials_survive_the_death_of(lab: ClusterLab, six: Six, breakable: OwnCluster, part: str) -> None:
    before = six.wait()
    assert len(before) == ALIVE

    deaths: dict[str, Callable[[], None]] = {
        "triggerer": lambda: kill_component(lab.airflow.installation, "triggerer"),
        "scheduler": lambda: kill_component(lab.airflow.installation, "scheduler"),
    }
    deaths.get(part, lambda: _kill_part(breakable, part))()

    assert lab.jobs(six.run) == before
    ended = six.end_one()
    assert (ended.status, ended.attempt, ended.value) == (TrialStatus.SUCCEEDED, 1, (ended.parameters or {})["x"])
    after = six.wait()
    assert len(set(before.items()) & set(after.items())) == ALIVE - 1


def _kill_part(cluster: OwnCluster, part: str) -> None:
    cluster.kill(part)
    cluster.start(part)
    cluster.wait_ready()


def test_after_all_deaths_no_trial_is_lost_or_doubled(lab: ClusterLab, six: Six) -> None:
    lab.release(six.run, *range(TRIALS))
    assert six.run.wait() == "success"
    trials = six.run.trials
    done = (TrialStatus.SUCCEEDED, 1, "")
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert [(trial.status, trial.attempt, trial.reason) for trial in trials] == [done] * TRIALS
    assert [trial.value for trial in trials] == [(trial.parameters or {})["x"] for trial in trials]
    assert six.run.told() == ["COMPLETE"] * TRIALS
    assert lab.objects(six.run) == {}
