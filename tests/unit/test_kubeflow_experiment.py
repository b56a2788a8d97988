"""A user's NNI experiment on a fake cluster, from its file to its results, without Airflow."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trialflow.errors import ConfigError, UnavailableError
from trialflow.experiment.loading import load_experiment
from trialflow.experiment.running import ExperimentSteps, TrialWatch
from trialflow.experiment.running import watch as watch_module
from trialflow.records import ExperimentStatus, Outcome, Trial, TrialStatus
from trialflow.settings import Settings
from trialflow.testing.fake_operator import add_pod, set_condition
from trialflow.training.kubeflow import waiting_pods
from trialflow.training.kubeflow.api import ClusterApi, ClusterError

from .kubeflow_lab import CODE, CONFIG, EXPORT, SERVER, Lab, make_lab, make_running_lab, wait_for
from .lab import RUN, again, run_to_end, suggest

EXAMPLES = Path(__file__).parents[2] / "examples"

@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "user"
    folder.mkdir()
    (folder / "mnist_tf.py").write_text(CODE)
    (folder / "search_space_tf.json").write_text('{"x": {"_type": "uniform", "_value": [0, 1]}}')
    (folder / "config.yml").write_text(CONFIG)
    return folder


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with make_lab(tmp_path, trial_sdk="own", trial_attempts=2) as lab:
        yield lab


def start(code: Path, settings: Settings) -> ExperimentSteps:
    spec = load_experiment(str(code / "config.yml"), settings)
    steps = ExperimentSteps.create("expaaaaa", spec, settings)
    steps.stage_code()
    steps.start()
    steps.plan_batch(1, RUN)
    return steps


def now_of(steps: ExperimentSteps, trial: Trial) -> Trial:
    return steps.context.store.get_trial(steps.context.id, trial.id)


def test_the_experiment_runs_and_leaves_nothing_in_the_cluster(tmp_path: Path, code: Path) -> None:
    with make_running_lab(tmp_path, trial_sdk="own") as lab:
        steps = start(code, lab.settings)
        for index in range(5):
            trial = run_to_end(TrialWatch(steps.context, suggest(steps, index)))
            assert trial.status is TrialStatus.SUCCEEDED, trial.reason
            steps.trials.report(trial)
        result = steps.conclude().to_json()
        assert steps.close_run(1, RUN)
        for plural in ("tfjobs", "pods", "secrets"):
            assert lab.cluster.all(plural) == []
        assert lab.cluster.count()["create tfjobs"] == 7, "five, and two that were only tried out"
    assert (result["status"], result["trials"]) == ("DONE", {"SUCCEEDED": 5})
    assert result["folder"] == str(lab.storage / "nni" / "expaaaaa")
    values = [trial.value for trial in steps.context.store.list_trials(steps.context.id)]
    assert result["best"]["value"] == max(value for value in values if value is not None)
    assert json.loads((lab.storage / "nni" / "expaaaaa" / "result.json").read_text()) == result
    assert len(list((lab.storage / "nni" / "expaaaaa").glob("code-*"))) == 1


@pytest.mark.parametrize("name", ["02-kubeflow-tensorflow", "03-kubeflow-pytorch"])
def test_an_example_runs_with_only_its_storage_changed(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "user"
    shutil.copytree(EXAMPLES / name, folder)
    config = (folder / "config.yml").read_text()
    assert "server: 192.0.2.10\n    path: /data/nfs/nni_storage" in config
    config = config.replace("192.0.2.10", SERVER).replace("/data/nfs/nni_storage", EXPORT)
    (folder / "config.yml").write_text(config)
    with make_running_lab(tmp_path, trial_sdk="own") as lab:
        steps = start(folder, lab.settings)
        trial = run_to_end(TrialWatch(steps.context, suggest(steps)))
        assert (trial.status, trial.reason) == (TrialStatus.SUCCEEDED, "")
        assert trial.value is not None
        assert len(steps.context.store.list_metrics(trial)) > 5


def test_a_lost_trial_is_run_again_with_the_same_parameters(lab: Lab, code: Path) -> None:
    steps = start(code, lab.settings)
    trial = suggest(steps)
    watch = TrialWatch(steps.context, trial)
    assert watch.poll() is None
    job = lab.cluster.all("tfjobs")[0]
    add_pod(lab.cluster, job, {"reason": "Evicted", "message": "low on memory"})
    set_condition(lab.cluster, job, "Failed")
    wait_for(lambda: watch.poll() or now_of(steps, trial).attempt == 2)
    second = now_of(steps, trial)
    assert (second.status, second.parameters, second.reported_at) == (TrialStatus.WAITING, trial.parameters, None)
    assert "low on memory" in second.reason
    (second,) = lab.cluster.all("tfjobs")
    assert second["metadata"]["labels"]["attempt"] == "2"
    set_condition(lab.cluster, second, "Running")
    wait_for(lambda: watch.poll() or now_of(steps, trial).status is TrialStatus.RUNNING)
    assert now_of(steps, trial).reason == ""
    lab.cluster.remove("tfjobs", second["metadata"]["name"])
    lost_for_good = run_to_end(watch)
    assert (lost_for_good.status, lost_for_good.attempt) == (TrialStatus.FAILED, 2)
    assert "was deleted" in lost_for_good.reason


def test_a_job_that_waited_too_long_is_gone_before_the_next_one_comes(tmp_path: Path, code: Path) -> None:
    with make_lab(tmp_path, waiting_limit_seconds=0.01, trial_attempts=2) as lab:
        steps = start(code, lab.settings)
        trial = steps.context.submit(suggest(steps))
        watch = TrialWatch(steps.context, trial)
        aged: dict[str, Any] = {"creationTimestamp": "2026-01-01T00:00:00Z"}
        name = lab.cluster.all("tfjobs")[0]["metadata"]["name"]
        lab.cluster.change("tfjobs", name, lambda job: job["metadata"].update(aged))
        wait_for(lambda: watch.poll() or now_of(steps, trial).attempt == 2)
        assert [job["metadata"]["labels"]["attempt"] for job in lab.cluster.all("tfjobs")] == ["2"]


def test_a_trial_that_nobody_takes_says_why_and_is_submitted_later(
    lab: Lab, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "_RESUBMIT_SECONDS", 0.0)
    steps = start(code, lab.settings)
    lab.cluster.go_away()
    trial = suggest(steps)
    assert trial.job is None
    with pytest.raises(UnavailableError, match="503"):
        steps.context.submit(trial)
    watch = TrialWatch(steps.context, trial)
    assert watch.poll() is None
    waiting = now_of(steps, trial)
    assert (waiting.status, waiting.job) == (TrialStatus.WAITING, None)
    assert "503" in waiting.reason
    lab.cluster.come_back()
    assert watch.poll() is None
    assert len(lab.cluster.all("tfjobs")) == 1


def test_a_trial_that_nobody_takes_is_given_up_some_day(tmp_path: Path, code: Path) -> None:
    with make_lab(tmp_path, waiting_limit_seconds=0.01) as lab:
        steps = start(code, lab.settings)
        lab.cluster.go_away()
        watch = TrialWatch(steps.context, suggest(steps))
        trial = watch.poll()
        assert trial is not None
        assert (trial.status, trial.exit_code) == (TrialStatus.FAILED, None)
        assert "could not be submitted for more than 0 s: the cluster's API answered 503" in trial.reason


@pytest.mark.parametrize("refusal", ["failed calling webhook: connection refused", "exceeded quota: count/tfjobs=0"])
def test_a_job_that_may_be_accepted_later_is_no_failure(
    lab: Lab, code: Path, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ClusterError(refusal, 403)

    steps = start(code, lab.settings)
    monkeypatch.setattr(ClusterApi, "create", refuse)
    trial = suggest(steps)
    with pytest.raises(UnavailableError, match=f"(check that it runs|raise it or wait): {refusal}"):
        steps.context.submit(trial)


def test_why_a_trial_waits_is_written_into_its_row(lab: Lab, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_pods, "PATIENCE_SECONDS", -1.0)
    monkeypatch.setattr(waiting_pods, "_RENEWAL_SECONDS", -1.0)
    steps = start(code, lab.settings)
    trial = suggest(steps)
    watch = TrialWatch(steps.context, trial)
    assert watch.poll() is None
    assert "the operator has not taken the job up" in now_of(steps, trial).reason
    set_condition(lab.cluster, lab.cluster.all("tfjobs")[0], "Created")
    wait_for(lambda: watch.poll() or now_of(steps, trial).reason == "the operator has made no pods yet")


def test_a_trial_of_which_one_pod_cannot_start_waits_for_it(
    lab: Lab, code: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waiting_pods, "PATIENCE_SECONDS", -1.0)
    monkeypatch.setattr(waiting_pods, "_RENEWAL_SECONDS", -1.0)
    config = (code / "config.yml").read_text().replace("replicas: 1", "replicas: 2")
    (code / "config.yml").write_text(config)
    steps = start(code, lab.settings)
    trial = suggest(steps)
    watch = TrialWatch(steps.context, trial)
    job = lab.cluster.all("tfjobs")[0]

    def count(active: int) -> None:
        counts = {"replicaStatuses": {"Worker": {"active": active}}}
        lab.cluster.change("tfjobs", job["metadata"]["name"], lambda item: item["status"].update(counts))

    set_condition(lab.cluster, job, "Created")
    count(1)
    set_condition(lab.cluster, job, "Running")
    add_pod(lab.cluster, job, {"phase": "Running"})
    no_room = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node fits"}
    add_pod(lab.cluster, job, {"phase": "Pending", "conditions": [no_room]}, "worker-1")
    wait_for(lambda: watch.poll() or "no node fits" in now_of(steps, trial).reason)
    assert now_of(steps, trial).status is TrialStatus.WAITING
    count(2)
    wait_for(lambda: watch.poll() or now_of(steps, trial).status is TrialStatus.RUNNING)
    assert now_of(steps, trial).reason == ""
    # A pod that takes another's place is waited for by a trial that runs: the log says so, and no label changes.
    count(1)
    watch = TrialWatch(steps.context, now_of(steps, trial))
    caplog.clear()
    wait_for(lambda: watch.poll() or "no node fits" in caplog.text)
    assert (watch.trial.reason, now_of(steps, trial).reason) == ("", "")


def test_why_a_trial_cannot_be_followed_is_written_into_its_row(lab: Lab, code: Path) -> None:
    steps = start(code, lab.settings)
    trial = suggest(steps)
    lab.cluster.denied.add(("tfjobs", "list"))
    with pytest.raises(ClusterError, match="cannot list"):
        TrialWatch(steps.context, trial).poll()
    assert "cannot list" in now_of(steps, trial).reason
    ended = steps.trials.report(now_of(steps, trial))
    assert (ended.status, "cannot list" in ended.reason) == (TrialStatus.USER_CANCELED, True)


def test_who_goes_on_with_a_submitted_trial_asks_the_cluster_for_no_more_than_a_list(lab: Lab, code: Path) -> None:
    steps = start(code, lab.settings)
    trial = steps.context.submit(suggest(steps))
    lab.cluster.requests.clear()
    watch = TrialWatch(again(steps).context, trial)
    for _ in range(5):
        assert watch.poll() is None
    wait_for(lambda: lab.cluster.count()["watch tfjobs"])
    assert lab.cluster.count() == {"list tfjobs": 1, "watch tfjobs": 1}


def test_a_trial_of_which_nothing_is_heard_is_not_polled_again(
    lab: Lab, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "_UNHEARD_SECONDS", 600.0)
    config = (code / "config.yml").read_text()
    (code / "config.yml").write_text(config.replace("trialConcurrency: 1", "trialConcurrency: 3"))
    steps = start(code, lab.settings)
    ended, killed, quiet = watches = [TrialWatch(steps.context, suggest(steps, index)) for index in range(3)]
    wait_for(lambda: not [watch.poll() for watch in watches if watch.is_due()])
    set_condition(lab.cluster, lab.cluster.all("tfjobs")[0], "Succeeded")
    with steps.context.store.open_change(steps.context.id, "ann") as change:
        change.kill(killed.trial)
    wait_for(lambda: ended.is_due() and killed.is_due())
    assert not quiet.is_due()
    assert [run_to_end(watch).status for watch in (ended, killed)] == [
        TrialStatus.SUCCEEDED,
        TrialStatus.USER_CANCELED,
    ]


def test_a_suggestion_has_room_as_soon_as_a_trial_has_ended(lab: Lab, code: Path) -> None:
    steps = start(code, lab.settings)
    watch = TrialWatch(steps.context, suggest(steps))
    assert watch.poll() is None
    assert not steps.trials.has_news()
    set_condition(lab.cluster, lab.cluster.all("tfjobs")[0], "Succeeded")
    ended = run_to_end(watch)
    assert ended.reported_at is None
    assert steps.trials.has_news()
    suggest(steps, 1)
    assert now_of(steps, ended).reported_at is not None
    assert len(lab.cluster.all("tfjobs")) == 1


def test_a_stopped_run_leaves_nothing_behind(tmp_path: Path, code: Path) -> None:
    with make_running_lab(tmp_path) as lab:
        (code / "mnist_tf.py").write_text("import time; time.sleep(600)")
        steps = start(code, lab.settings)
        trial = steps.context.submit(suggest(steps))
        wait_for(lambda: lab.cluster.all("pods"))
        assert steps.close_run(1, RUN)
        assert lab.cluster.all("tfjobs") == []
        assert lab.cluster.all("pods") == []
        assert steps.context.refresh().status is ExperimentStatus.STOPPED
        assert now_of(steps, trial).status is TrialStatus.USER_CANCELED


def test_whoever_plans_the_next_batch_at_a_limit_touches_no_job(lab: Lab, code: Path) -> None:
    config = (code / "config.yml").read_text().replace("trialConcurrency: 1", "trialConcurrency: 2")
    (code / "config.yml").write_text(f"{config}\nmaxFailedTrialNum: 0\n")
    steps = start(code, lab.settings)
    failing, running = watches = [TrialWatch(steps.context, suggest(steps, index)) for index in range(2)]
    wait_for(lambda: not [watch.poll() for watch in watches if watch.is_due()])
    steps.context.store.set_ended(failing.trial, Outcome(TrialStatus.FAILED, 1), None)
    requests = lab.cluster.count()

    planner = again(steps)
    assert planner.plan_next_batch(1, "run-2") is None
    assert lab.cluster.count() == requests
    assert (planner.context.refresh().status, len(lab.cluster.all("tfjobs"))) == (ExperimentStatus.ERROR, 2)

    began = time.monotonic()
    wait_for(running.is_due)
    for watch in watches:
        steps.trials.report(run_to_end(watch))
    assert time.monotonic() - began < 10
    assert lab.cluster.all("tfjobs") == []
    assert [trial.status for trial in steps.context.store.list_trials(steps.context.id)] == [
        TrialStatus.FAILED,
        TrialStatus.SYS_CANCELED,
    ]


def test_what_the_cluster_has_against_an_experiment_is_told_with_the_line_of_the_file(lab: Lab, code: Path) -> None:
    lab.cluster.served.pop("kubeflow.org")
    with pytest.raises(ConfigError) as raised:
        load_experiment(str(code / "config.yml"), lab.settings)
    (problem,) = raised.value.problems
    assert (problem.field, problem.file) == ("kubeflowConfig.operator", str(code / "config.yml"))
    assert problem.line == CONFIG[: CONFIG.index("operator:")].count("\n") + 1
