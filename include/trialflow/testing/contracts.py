"""The suites: plain classes whose test methods pytest finds in a subclass that gives the fixtures they name.

class TestMyService(TrainingServiceContract):
    @pytest.fixture
    def service(self) -> TrainingService[Section, Handle]: ...

    @pytest.fixture
    def make_request(self, tmp_path) -> Callable[[str], JobRequest[Section]]: ...
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from trialflow.errors import NotFoundError, StoreError, TrainingError
from trialflow.records import (
    AlgorithmSpec,
    ExperimentSpec,
    ExperimentStatus,
    Metric,
    MetricType,
    Outcome,
    Slot,
    Trial,
    TrialStatus,
)
from trialflow.store import ClaimRefusal, MetricQuery

if TYPE_CHECKING:
    from collections.abc import Callable

    from trialflow.store import Store
    from trialflow.training import JobRequest, TrainingService

    Service = TrainingService[Any, Any]
    Request = JobRequest[Any]

JOB_TIMEOUT_SECONDS = 30.0
_ID = "contract"
_RUN = "run-1"


def make_spec(**changes: Any) -> ExperimentSpec:
    """A small experiment for tests; ``changes`` replace fields of it."""
    spec = ExperimentSpec(
        name="contract",
        author="tests",
        trial_concurrency=2,
        max_trial_number=4,
        max_duration_seconds=3600.0,
        platform="local",
        search_space={"x": {"_type": "uniform", "_value": [0, 1]}},
        tuner=AlgorithmSpec("Random"),
        code_directory="/",
        code_root="/",
        training={"command": "true"},
    )
    return replace(spec, **changes)


def start_experiment(store: Store, experiment_id: str = _ID, **changes: Any) -> None:
    """Create an experiment of `make_spec` in the store, and let trials be claimed."""
    store.create_experiment(experiment_id, make_spec(**changes), "/")
    store.change_status(experiment_id, ExperimentStatus.RUNNING, from_=[ExperimentStatus.INITIALIZED])


def claim(store: Store, index: int = 0) -> Trial:
    """Claim the trial of a slot that there has to be room for."""
    trial = store.claim(_ID, Slot(1, index), _RUN)
    assert isinstance(trial, Trial), f"the claim was refused: {trial}"
    return trial


class StoreContract:
    """Needs the fixture ``store``: an open `Store` on an empty database."""

    def test_a_slot_is_claimed_once(self, store: Store) -> None:
        start_experiment(store, trial_concurrency=3)
        first, again, other = claim(store), claim(store), claim(store, 1)
        assert first == again
        assert other.id != first.id
        assert [trial.id for trial in store.list_trials(_ID)] == [first.id, other.id]
        assert store.find_trial(_ID, Slot(1, 0)) == first

    def test_a_claimed_slot_answers_when_there_is_no_room_any_more(self, store: Store) -> None:
        start_experiment(store, trial_concurrency=1, max_trial_number=1)
        assert claim(store) == claim(store)

    def test_the_cap_counts_trials_until_they_are_reported(self, store: Store) -> None:
        start_experiment(store, trial_concurrency=1)
        trial = claim(store)
        assert store.claim(_ID, Slot(1, 1), _RUN) is ClaimRefusal.NO_ROOM
        store.set_ended(trial, Outcome(TrialStatus.SUCCEEDED), 1.0)
        assert store.claim(_ID, Slot(1, 1), _RUN) is ClaimRefusal.NO_ROOM
        store.set_reported(trial)
        assert claim(store, 1).number == 1

    def test_no_more_trials_than_the_limit_are_created(self, store: Store) -> None:
        start_experiment(store, trial_concurrency=9, max_trial_number=3)
        numbers = [claim(store, index).number for index in range(3)]
        assert numbers == [0, 1, 2]
        assert store.claim(_ID, Slot(1, 3), _RUN) is ClaimRefusal.NO_TRIALS_LEFT

    def test_a_refused_claim_leaves_no_gap_in_the_numbers(self, store: Store) -> None:
        start_experiment(store, trial_concurrency=1)
        store.set_reported(claim(store))
        claim(store, 1)
        assert store.claim(_ID, Slot(1, 2), _RUN) is ClaimRefusal.NO_ROOM
        for trial in store.list_unreported(_ID):
            store.set_reported(trial)
        assert claim(store, 2).number == 2

    def test_who_waits_goes_by_what_has_ended_and_who_claims_by_what_was_reported(self, store: Store) -> None:
        start_experiment(store, trial_concurrency=2, max_trial_number=9)
        nothing = store.read_claim_state(_ID)
        assert (nothing.created, nothing.taken, nothing.ended) == (0, 0, 0)
        assert (nothing.oldest_unfollowed, nothing.oldest_unsubmitted) == (None, None)
        first, second = claim(store), claim(store, 1)
        state = store.read_claim_state(_ID, asked_in_vain_after=7)
        assert (state.created, state.taken, state.ended, state.asked_in_vain_after) == (2, 2, 0, 7)
        assert (state.trial_concurrency, state.max_trial_number, state.has_waiting_point) == (2, 9, False)
        assert (state.oldest_unfollowed, state.oldest_unsubmitted) == (first.claimed_at, first.claimed_at)
        store.set_ended(first, Outcome(TrialStatus.SUCCEEDED), 1.0)
        store.set_job(second, {"pid": 1})
        with store.open_change(_ID, "ann") as change:
            change.add({"x": 0.5})
        state = store.read_claim_state(_ID)
        assert (state.created, state.taken, state.ended, state.has_waiting_point) == (2, 1, 1, True)
        assert (state.oldest_unfollowed, state.oldest_unsubmitted) == (second.claimed_at, None)
        assert store.claim(_ID, Slot(1, 2), _RUN) is ClaimRefusal.NO_ROOM
        store.set_followed(second)
        assert store.read_claim_state(_ID).oldest_unfollowed is None

    def test_nothing_is_claimed_when_the_duration_is_over(self, store: Store) -> None:
        start_experiment(store, max_duration_seconds=0.0)
        claim(store)  # The duration counts from the first claim.
        assert store.claim(_ID, Slot(1, 1), _RUN) is ClaimRefusal.DURATION_OVER

    def test_nothing_is_claimed_once_a_value_has_reached_the_goal(self, store: Store) -> None:
        for number, (mode, below, reached) in enumerate((("maximize", 0.4, 0.5), ("minimize", 0.6, 0.5))):
            experiment_id = f"{_ID}{number}"
            tuner = AlgorithmSpec("TPE", {"optimize_mode": mode})
            start_experiment(store, experiment_id, trial_concurrency=9, goal=0.5, tuner=tuner)
            for index, value in enumerate((below, reached)):
                trial = store.claim(experiment_id, Slot(1, index), _RUN)
                assert isinstance(trial, Trial)
                store.set_ended(trial, Outcome(TrialStatus.SUCCEEDED), value)
            assert store.claim(experiment_id, Slot(1, 2), _RUN) is ClaimRefusal.LIMIT_REACHED
            limit = store.find_limit(experiment_id, store.get_experiment(experiment_id).spec)
            assert limit is not None
            assert limit.status is ExperimentStatus.DONE

    def test_nothing_is_claimed_once_too_many_trials_have_failed(self, store: Store) -> None:
        start_experiment(store, trial_concurrency=9, max_failed_trial_number=1)
        for index in range(2):
            store.set_ended(claim(store, index), Outcome(TrialStatus.FAILED), None)
        assert store.claim(_ID, Slot(1, 2), _RUN) is ClaimRefusal.LIMIT_REACHED
        limit = store.find_limit(_ID, store.get_experiment(_ID).spec)
        assert limit is not None
        assert limit.status is ExperimentStatus.ERROR

    def test_trials_that_were_stopped_are_no_failures(self, store: Store) -> None:
        start_experiment(store, trial_concurrency=9, max_failed_trial_number=0)
        for index, status in enumerate((TrialStatus.EARLY_STOPPED, TrialStatus.USER_CANCELED)):
            store.set_ended(claim(store, index), Outcome(status), None)
        assert claim(store, 2).number == 2

    def test_nothing_is_claimed_before_the_start_and_after_the_end(self, store: Store) -> None:
        store.create_experiment(_ID, make_spec(), "/")
        assert store.claim(_ID, Slot(1, 0), _RUN) is ClaimRefusal.NOT_RUNNING
        start_experiment(store)
        claim(store)
        store.change_status(_ID, ExperimentStatus.STOPPED, from_=[ExperimentStatus.RUNNING])
        assert store.claim(_ID, Slot(1, 1), _RUN) is ClaimRefusal.NOT_RUNNING

    def test_the_first_note_of_each_kind_stands(self, store: Store) -> None:
        start_experiment(store)
        trial = claim(store)
        for value in (1, 2):
            store.set_parameters(trial, {"x": value}, {"note": value})
            store.set_job(trial, {"job": value})
            store.set_running(trial, float(value))
            store.set_ended(trial, Outcome(TrialStatus.SUCCEEDED, exit_code=value), float(value))
        noted = store.get_trial(_ID, trial.id)
        assert (noted.parameters, noted.note) == ({"x": 1}, {"note": 1})
        assert noted.job == {"job": 1}
        assert (noted.started_at, noted.exit_code, noted.value) == (1.0, 1, 1.0)

    def test_why_a_trial_waits_is_noted_until_it_runs(self, store: Store) -> None:
        start_experiment(store)
        trial = claim(store)
        for reason in ("no room", "no image"):
            store.set_reason(trial, reason)
            assert store.get_trial(_ID, trial.id).reason == reason
        store.set_running(trial, 1.0)
        store.set_reason(trial, "too late")
        assert store.get_trial(_ID, trial.id).reason == ""

    def test_a_trial_is_reported_once(self, store: Store) -> None:
        start_experiment(store)
        trial = claim(store)
        assert store.set_reported(trial)
        reported_at = store.get_trial(_ID, trial.id).reported_at
        assert not store.set_reported(trial)
        assert store.get_trial(_ID, trial.id).reported_at == reported_at

    def test_who_follows_an_older_attempt_changes_nothing(self, store: Store) -> None:
        start_experiment(store)
        old = claim(store)
        store.start_next_attempt(old, "lost")
        store.start_next_attempt(old, "lost, said a second watcher")
        store.set_running(old, 1.0)
        store.set_job(old, {"job": "old"})
        store.set_ended(old, Outcome(TrialStatus.FAILED), None)
        assert not store.set_reported(old)
        now = store.get_trial(_ID, old.id)
        assert now == replace(old, attempt=2, reason="lost")

    def test_a_metric_is_kept_once(self, store: Store) -> None:
        start_experiment(store)
        trial = claim(store)
        first = [Metric(MetricType.PERIODICAL, 0, 0.5, 1.0), Metric(MetricType.FINAL, 0, {"default": 1}, 2.0)]
        store.add_metrics(trial, first)
        store.add_metrics(trial, [*first, Metric(MetricType.PERIODICAL, 1, 0.6, 3.0)])
        kept = [(metric.type, metric.sequence, metric.value) for metric in store.list_metrics(trial)]
        assert kept == [("FINAL", 0, {"default": 1}), ("PERIODICAL", 0, 0.5), ("PERIODICAL", 1, 0.6)]

    def test_whatever_a_trial_printed_can_be_stored(self, store: Store) -> None:
        start_experiment(store)
        trial = claim(store)
        printed = "before\x00\ud800after"
        store.set_parameters(trial, {"name": printed}, {printed: 1})
        store.set_reason(trial, printed)
        store.add_metrics(trial, [Metric(MetricType.FINAL, 0, {"default": 1, printed: printed}, 1.0)])
        store.set_ended(trial, Outcome(TrialStatus.FAILED, 1, printed), None)
        store.change_status(_ID, ExperimentStatus.ERROR, from_=[ExperimentStatus.RUNNING], reason=printed)
        store.create_experiment("other", make_spec(name=printed), "/")
        now = store.get_trial(_ID, trial.id)
        readable = "before\ufffd\ufffdafter"
        assert (now.reason, now.parameters, now.note) == (readable, {"name": printed}, {printed: 1})
        assert store.get_experiment(_ID).status_reason == readable
        assert store.get_experiment("other").spec.name == printed
        assert store.list_metrics(now)[0].value == {"default": 1, printed: printed}
        assert json.loads(store.page_metrics(_ID, MetricQuery(), 9, 0)[0][0].data) == {"default": 1, printed: printed}
        assert store.find_limit(_ID, make_spec(goal=1.0)) is None

    def test_metrics_of_another_attempt_are_not_mixed_in(self, store: Store) -> None:
        start_experiment(store)
        trial = claim(store)
        store.add_metrics(trial, [Metric(MetricType.PERIODICAL, 0, 0.5, 1.0)])
        store.start_next_attempt(trial, "lost")
        assert store.list_metrics(store.get_trial(_ID, trial.id)) == []

    def test_pages_of_metrics_are_parts_of_the_whole_in_order(self, store: Store) -> None:
        start_experiment(store, trial_concurrency=4, max_trial_number=4)
        reported = []
        for index, number in enumerate((3, 0, 1, 4)):
            trial = claim(store, index)
            new = [Metric(MetricType.PERIODICAL, step, {"default": step}, 1.5) for step in range(number)]
            store.add_metrics(trial, new)
            reported += [(trial.id, index, *asdict(metric).values()) for metric in new]
        for limit, offset in product((1, 2, 3, 5, 9), range(10)):
            found, total = store.page_metrics(_ID, MetricQuery(), limit, offset)
            rows = [(*item[:4], json.loads(item.data), item.at) for item in found]
            assert (rows, total) == (reported[offset : offset + limit], 8)
        latest, total = store.page_metrics(_ID, MetricQuery(latest=True, numbers=(1, 3)), 9, 0)
        assert [(item.number, item.sequence) for item in latest] == [(2, 0), (3, 3)]

    def test_a_batch_keeps_its_size_and_its_run(self, store: Store) -> None:
        start_experiment(store, max_trial_number=3)
        assert store.plan_batch(_ID, 1, _RUN, 20) == 3
        claim(store)
        assert store.plan_batch(_ID, 1, _RUN, 20) == 3
        assert store.plan_batch(_ID, 2, _RUN, 20) == 2
        try:
            store.plan_batch(_ID, 1, "run-2", 20)
        except NotFoundError:
            raise
        except StoreError as error:
            assert _RUN in str(error)  # noqa: PT017  # pytest is not imported by the package
        else:
            raise AssertionError("a second run was given the batch of another")

    def test_a_batch_is_known_by_its_run_and_whether_its_claims_are_through(self, store: Store) -> None:
        start_experiment(store, max_trial_number=9)
        for batch in (1, 2):
            store.plan_batch(_ID, batch, f"run-{batch}", 2)
        store.set_passed(_ID, 1)
        store.set_passed(_ID, 1)
        assert [store.is_passed(_ID, batch) for batch in (1, 2, 3)] == [True, False, False]
        assert [store.find_run(_ID, batch) for batch in (1, 2, 3)] == ["run-1", "run-2", None]

    def test_an_experiment_is_created_once(self, store: Store) -> None:
        first = store.create_experiment(_ID, make_spec(), "/")
        assert store.create_experiment(_ID, make_spec(name="other"), "/elsewhere") == first


class TrainingServiceContract:
    """Needs the fixtures ``service`` and ``make_request``: shell command → a fresh request for it."""

    def test_a_command_that_ends_with_0_has_succeeded(
        self, service: Service, make_request: Callable[[str], Request]
    ) -> None:
        outcome = run_to_end(service, make_request("true"))
        assert (outcome.status, outcome.exit_code, outcome.lost) == (TrialStatus.SUCCEEDED, 0, False)

    def test_a_command_that_ends_with_1_has_failed(
        self, service: Service, make_request: Callable[[str], Request]
    ) -> None:
        request = make_request("echo broken >&2; exit 1")
        outcome = run_to_end(service, request)
        assert (outcome.status, outcome.exit_code, outcome.lost) == (TrialStatus.FAILED, 1, False)
        assert "broken" in service.last_output(service.handle(request))

    def test_a_second_submit_starts_nothing(
        self, service: Service, make_request: Callable[[str], Request]
    ) -> None:
        request = make_request('echo ran >> "$NNI_OUTPUT_DIR/runs"; cat "$NNI_OUTPUT_DIR/runs" >&2')
        service.submit(request)
        service.submit(request)
        run_to_end(service, request)
        assert service.last_output(service.handle(request)) == "ran"

    def test_a_job_that_was_cancelled_first_never_starts(
        self, service: Service, make_request: Callable[[str], Request]
    ) -> None:
        request = make_request("echo ran >&2")
        service.cancel(service.handle(request))
        service.submit(request)
        time.sleep(0.5)
        assert service.last_output(service.handle(request)) == ""

    def test_a_cancel_ends_the_job_and_may_be_repeated(
        self, service: Service, make_request: Callable[[str], Request]
    ) -> None:
        request = make_request("sleep 600")
        service.submit(request)
        handle = service.handle(request)
        assert service.poll(handle).outcome is None
        service.cancel(handle)
        service.cancel(handle)
        assert service.poll(handle).outcome is not None

    def test_a_plan_and_a_handle_have_no_effect_and_the_plan_is_json(
        self, service: Service, make_request: Callable[[str], Request]
    ) -> None:
        request = make_request("echo ran >&2")
        plan = service.plan(request)
        assert json.loads(json.dumps(plan)) == plan
        assert service.last_output(service.handle(request)) == ""

    def test_the_ledger_gives_a_section_and_a_handle_back_as_they_were(
        self, service: Service, make_request: Callable[[str], Request]
    ) -> None:
        request = make_request("echo 'ran' >&2")
        handle = service.handle(request)
        kept = json.dumps([service.write_section(request.section), service.write_handle(handle)])
        section, job = json.loads(kept)
        assert (service.read_section(section), service.read_handle(job)) == (request.section, handle)
        assert handle.folder == request.folder

    def test_what_another_program_has_written_is_refused_with_a_sentence(self, service: Service) -> None:
        for read in (service.read_section, service.read_handle):
            try:
                read({"written": "elsewhere"})
            except TrainingError as error:
                assert "written by another version" in str(error)  # noqa: PT017  # pytest is not imported here
            else:
                raise AssertionError("it was read")

    def test_a_trial_reads_its_parameters_and_its_metrics_are_found(
        self, service: Service, make_request: Callable[[str], Request]
    ) -> None:
        request = make_request(
            'mkdir -p "$NNI_SYS_DIR/.nni"; cp "$NNI_SYS_DIR/parameter.cfg" "$NNI_SYS_DIR/.nni/metrics"'
        )
        assert run_to_end(service, request).status is TrialStatus.SUCCEEDED
        written = json.loads(service.metrics_file(service.handle(request)).read_text())
        assert written["parameters"] == request.parameters


def run_to_end(service: Service, request: Request) -> Outcome:
    """Submit a job and wait until it has ended."""
    service.submit(request)
    deadline = time.monotonic() + JOB_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        outcome = service.poll(service.handle(request)).outcome
        if outcome is not None:
            return outcome
        time.sleep(0.01)
    service.cancel(service.handle(request))
    raise AssertionError(f"the job did not end within {JOB_TIMEOUT_SECONDS:.0f} s")
