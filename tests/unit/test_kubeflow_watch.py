"""One list and one watch for all trials of a process, through everything that can happen to a watch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from trialflow.errors import TrainingError
from trialflow.records import TrialStatus
from trialflow.testing.fake_operator import set_condition
from trialflow.training import JobRequest
from trialflow.training.kubeflow import informer as informer_module
from trialflow.training.kubeflow.informer import JobInformer, informers

from .kubeflow_lab import Lab, make_lab, make_running_lab, wait_for


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with make_lab(tmp_path) as lab:
        yield lab


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect without much delay."""
    monkeypatch.setattr(informer_module, "_FIRST_DELAY_SECONDS", 0.02)
    monkeypatch.setattr(informer_module, "_LONGEST_DELAY_SECONDS", 0.05)


def submit(lab: Lab, condition: str | None = "Running") -> JobRequest:
    request = lab.request()
    lab.service.submit(request)
    if condition:
        set_condition(lab.cluster, lab.job(request), condition)
    return request


def is_ended(lab: Lab, request: JobRequest) -> bool:
    return lab.service.poll(lab.service.handle(request)).outcome is not None


def informer_of(lab: Lab) -> JobInformer:
    return informers.of(lab.service._api, lab.service.handle(lab.made[0]).collection)


def test_a_trial_costs_four_requests_however_long_it_runs(lab: Lab) -> None:
    request = submit(lab)
    for _ in range(500):
        assert not is_ended(lab, request)
    set_condition(lab.cluster, lab.job(request), "Succeeded")
    wait_for(lambda: is_ended(lab, request))
    lab.service.cancel(lab.service.handle(request))
    counts = lab.cluster.count()
    # The trial wrote no metrics, so that its log is asked for as well.
    assert counts.pop("get pods/log") >= 1
    assert counts == {"create tfjobs": 1, "list tfjobs": 1, "watch tfjobs": 1, "delete tfjobs": 1}


def test_a_whole_trial_costs_at_most_six_requests(tmp_path: Path) -> None:
    code = "import nni; nni.report_final_result(nni.get_next_parameter()['x'])"
    with make_running_lab(tmp_path) as lab:
        request = lab.request(f'python3 -c "{code}"')
        lab.cluster.requests.clear()
        lab.service.submit(request)
        wait_for(lambda: is_ended(lab, request))
        lab.service.cancel(lab.service.handle(request))
        assert len(lab.cluster.requests) == 4, lab.cluster.count()


def test_fifty_trials_are_followed_by_one_list_and_one_watch(lab: Lab) -> None:
    requests = [submit(lab) for _ in range(50)]
    threads = [
        threading.Thread(target=lambda one=request: [is_ended(lab, one) for _ in range(20)]) for request in requests[:8]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(is_ended(lab, request) for request in requests)
    wait_for(lambda: lab.cluster.count()["watch tfjobs"])  # it begins after the list that answered all of them
    counts = lab.cluster.count()
    assert (counts["list tfjobs"], counts["watch tfjobs"], counts["get tfjobs"]) == (1, 1, 0)


def test_the_first_poll_waits_for_the_first_list(lab: Lab) -> None:
    request = submit(lab, "Succeeded")
    state = lab.service.poll(lab.service.handle(request))
    assert state.outcome is not None
    assert state.outcome.status is TrialStatus.SUCCEEDED


def test_a_job_that_was_just_created_is_not_taken_for_a_deleted_one(lab: Lab) -> None:
    assert not is_ended(lab, submit(lab))
    for _ in range(20):
        assert not is_ended(lab, submit(lab, None))


def test_a_deleted_job_is_lost(lab: Lab) -> None:
    request = submit(lab)
    assert not is_ended(lab, request)
    lab.cluster.remove("tfjobs", lab.job(request)["metadata"]["name"])
    outcome = wait_for(lambda: lab.service.poll(lab.service.handle(request)).outcome)
    assert (outcome.status, outcome.lost, outcome.exit_code) == (TrialStatus.FAILED, True, None)
    assert "was deleted" in outcome.reason


@pytest.mark.parametrize(("code", "status"), [(0, TrialStatus.SUCCEEDED), (3, TrialStatus.FAILED)])
def test_a_job_that_was_deleted_after_its_trial_had_ended_is_not_lost(lab: Lab, code: int, status: TrialStatus) -> None:
    request = submit(lab)
    (lab.chief_folder(request) / "exit").write_text(f"{code}\n")
    lab.cluster.remove("tfjobs", lab.job(request)["metadata"]["name"])
    outcome = lab.service.poll(lab.service.handle(request)).outcome
    assert outcome is not None
    assert (outcome.status, outcome.exit_code, outcome.lost) == (status, code, False)


@pytest.mark.usefixtures("quick")
def test_an_api_that_is_away_makes_no_trial_lost(lab: Lab) -> None:
    request = submit(lab)
    handle = lab.service.handle(request)
    lab.cluster.go_away()
    for _ in range(3):
        state = lab.service.poll(handle)
        assert (state.outcome, state.started_at) == (None, None)
        assert "503" in state.reason
    lab.cluster.come_back()
    wait_for(lambda: lab.service.poll(handle).started_at)
    lab.cluster.go_away()
    assert lab.service.poll(handle).outcome is None
    lab.cluster.come_back()
    set_condition(lab.cluster, lab.job(request), "Succeeded")
    wait_for(lambda: is_ended(lab, request))


@pytest.mark.usefixtures("quick")
def test_a_watch_that_the_server_ends_goes_on_without_a_list(lab: Lab) -> None:
    request = submit(lab)
    assert not is_ended(lab, request)
    wait_for(lambda: lab.cluster.count()["watch tfjobs"] == 1)
    lab.cluster.end_watches()
    set_condition(lab.cluster, lab.job(request), "Succeeded")
    wait_for(lambda: is_ended(lab, request))
    counts = lab.cluster.count()
    assert (counts["list tfjobs"], counts["watch tfjobs"]) == (1, 2)


@pytest.mark.usefixtures("quick")
def test_a_watch_that_is_too_far_behind_lists_anew_and_misses_nothing(lab: Lab) -> None:
    ended, deleted, running = (submit(lab) for _ in range(3))
    assert not any(is_ended(lab, request) for request in (ended, deleted, running))
    wait_for(lambda: lab.cluster.count()["watch tfjobs"] == 1)
    with lab.cluster.changed:
        lab.cluster.end_watches()
        set_condition(lab.cluster, lab.job(ended), "Succeeded")
        lab.cluster.remove("tfjobs", lab.job(deleted)["metadata"]["name"])
        lab.cluster.forget_history()
    wait_for(lambda: is_ended(lab, ended) and is_ended(lab, deleted))
    assert not is_ended(lab, running)
    assert lab.cluster.count()["list tfjobs"] == 2


@pytest.mark.usefixtures("quick")
def test_bookmarks_keep_a_quiet_watch_from_falling_behind(lab: Lab) -> None:
    lab.cluster.bookmark_seconds = 0.05
    request = submit(lab)
    assert not is_ended(lab, request)
    before = lab.service.handle(request)
    lab.cluster.change("tfjobs", before.name, lambda job: None)
    seen = informer_of(lab)._version
    # Something that is none of ours moves the cluster's version on.
    other = {"metadata": {"name": "other"}, "spec": {}}
    lab.service._api.create("/api/v1/namespaces/default/secrets", other)
    wait_for(lambda: int(informer_of(lab)._version or 0) > int(seen or 0) + 1)


def test_an_informer_that_nobody_asks_ends_and_starts_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(informer_module, "_IDLE_SECONDS", 0.1)
    lab.cluster.bookmark_seconds = 0.05
    request = submit(lab)
    assert not is_ended(lab, request)
    informer = informer_of(lab)
    wait_for(lambda: not informer.is_running)
    set_condition(lab.cluster, lab.job(request), "Succeeded")
    assert is_ended(lab, request)


def test_closing_an_informer_ends_its_thread_while_it_reads(lab: Lab) -> None:
    assert not is_ended(lab, submit(lab))
    informer = informer_of(lab)
    wait_for(lambda: lab.cluster.count()["watch tfjobs"] == 1)
    informer.close()
    assert not informer.is_running


def test_rights_that_are_missing_are_an_error_and_no_waiting(lab: Lab) -> None:
    request = submit(lab)
    lab.cluster.denied.add(("tfjobs", "list"))
    with pytest.raises(TrainingError, match="cannot list"):
        lab.service.poll(lab.service.handle(request))


def test_a_storage_that_is_not_mounted_where_a_trial_is_followed_is_an_error(lab: Lab) -> None:
    request = submit(lab)
    lab.storage.rename(lab.storage.with_name("elsewhere"))
    with pytest.raises(TrainingError, match="must be mounted wherever trials are followed"):
        lab.service.poll(lab.service.handle(request))
