"""The suites: plain classes whose test methods pytest finds in a subclass that gives the fixtures they name.

class TestMyService(TrainingServiceContract):
    @pytest.fixture
    def service(self) -> TrainingService: ...

    @pytest.fixture
    def make_request(self, tmp_path) -> Callable[[str], JobRequest]: ...
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from itertools import count, product
from typing import TYPE_CHECKING, Any

from trialflow.assessors import check_assessor
from trialflow.errors import NotFoundError, Problem, StoreError
from trialflow.records import (
    AlgorithmSpec,
    ExperimentSpec,
    ExperimentStatus,
    JsonObject,
    Metric,
    MetricType,
    OptimizeMode,
    Outcome,
    Slot,
    Trial,
    TrialStatus,
)
from trialflow.search_space import parse_search_space
from trialflow.store import ClaimRefusal, MetricQuery
from trialflow.tuners import History, NoSuggestion, PastTrial, Suggestion, check_space, check_tuner
from trialflow.tuners.base import ADVISORS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trialflow.assessors import Assessor
    from trialflow.store import Store
    from trialflow.training import JobRequest, TrainingService
    from trialflow.tuners import Tuner

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
            store.set_sampler_number(trial, value)
            store.set_job(trial, {"job": value})
            store.set_running(trial, float(value))
            store.set_ended(trial, Outcome(TrialStatus.SUCCEEDED, exit_code=value), float(value))
        noted = store.get_trial(_ID, trial.id)
        assert (noted.parameters, noted.note, noted.sampler_number) == ({"x": 1}, {"note": 1}, 1)
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

    def test_an_experiment_is_created_once(self, store: Store) -> None:
        first = store.create_experiment(_ID, make_spec(), "/")
        assert store.create_experiment(_ID, make_spec(name="other"), "/elsewhere") == first


class TrainingServiceContract:
    """Needs the fixtures ``service`` and ``make_request``: shell command → a fresh request for it."""

    def test_a_command_that_ends_with_0_has_succeeded(
        self, service: TrainingService, make_request: Callable[[str], JobRequest]
    ) -> None:
        outcome = run_to_end(service, make_request("true"))
        assert (outcome.status, outcome.exit_code, outcome.lost) == (TrialStatus.SUCCEEDED, 0, False)

    def test_a_command_that_ends_with_1_has_failed(
        self, service: TrainingService, make_request: Callable[[str], JobRequest]
    ) -> None:
        request = make_request("echo broken >&2; exit 1")
        outcome = run_to_end(service, request)
        assert (outcome.status, outcome.exit_code, outcome.lost) == (TrialStatus.FAILED, 1, False)
        assert "broken" in service.last_output(service.handle(request))

    def test_a_second_submit_starts_nothing(
        self, service: TrainingService, make_request: Callable[[str], JobRequest]
    ) -> None:
        request = make_request('echo ran >> "$NNI_OUTPUT_DIR/runs"; cat "$NNI_OUTPUT_DIR/runs" >&2')
        service.submit(request)
        service.submit(request)
        run_to_end(service, request)
        assert service.last_output(service.handle(request)) == "ran"

    def test_a_job_that_was_cancelled_first_never_starts(
        self, service: TrainingService, make_request: Callable[[str], JobRequest]
    ) -> None:
        request = make_request("echo ran >&2")
        service.cancel(service.handle(request))
        service.submit(request)
        time.sleep(0.5)
        assert service.last_output(service.handle(request)) == ""

    def test_a_cancel_ends_the_job_and_may_be_repeated(
        self, service: TrainingService, make_request: Callable[[str], JobRequest]
    ) -> None:
        request = make_request("sleep 600")
        service.submit(request)
        handle = service.handle(request)
        assert service.poll(handle).outcome is None
        service.cancel(handle)
        service.cancel(handle)
        assert service.poll(handle).outcome is not None

    def test_a_plan_and_a_handle_have_no_effect_and_are_json(
        self, service: TrainingService, make_request: Callable[[str], JobRequest]
    ) -> None:
        request = make_request("echo ran >&2")
        for made in (service.plan(request), service.handle(request)):
            assert json.loads(json.dumps(made)) == made
        assert service.last_output(service.handle(request)) == ""

    def test_a_trial_reads_its_parameters_and_its_metrics_are_found(
        self, service: TrainingService, make_request: Callable[[str], JobRequest]
    ) -> None:
        request = make_request(
            'mkdir -p "$NNI_SYS_DIR/.nni"; cp "$NNI_SYS_DIR/parameter.cfg" "$NNI_SYS_DIR/.nni/metrics"'
        )
        assert run_to_end(service, request).status is TrialStatus.SUCCEEDED
        written = json.loads(service.metrics_file(service.handle(request)).read_text())
        assert written["parameters"] == request.parameters


def run_to_end(service: TrainingService, request: JobRequest) -> Outcome:
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


SPACE: JsonObject = {
    "lr": {"_type": "loguniform", "_value": [1e-5, 1e-1]},
    "units": {"_type": "randint", "_value": [4, 64]},
    "dropout": {"_type": "quniform", "_value": [0.1, 0.5, 0.2]},
    "width": {"_type": "normal", "_value": [10, 2]},
    "layer": {
        "_type": "choice",
        "_value": [
            {"_name": "Conv", "k": {"_type": "choice", "_value": [3, 5]}},
            {"_name": "Dense", "size": {"_type": "uniform", "_value": [1, 2]}},
        ],
    },
}
EVERY_TYPE: JsonObject = {
    "choice": {"_type": "choice", "_value": [1, 1.5, "a", None, [2], {"b": 3}, True]},
    "randint": {"_type": "randint", "_value": [-2, 3]},
    "uniform": {"_type": "uniform", "_value": [0, 1]},
    "quniform": {"_type": "quniform", "_value": [2, 10, 5]},
    "loguniform": {"_type": "loguniform", "_value": [0.001, 10]},
    "qloguniform": {"_type": "qloguniform", "_value": [1, 100, 7]},
    "normal": {"_type": "normal", "_value": [0, 1]},
    "qnormal": {"_type": "qnormal", "_value": [5, 2, 0.5]},
    "lognormal": {"_type": "lognormal", "_value": [0, 1]},
    "qlognormal": {"_type": "qlognormal", "_value": [0, 1, 0.25]},
}


def _change(body: JsonObject) -> JsonObject:
    """A parameter without one of its options and with another one, or with other bounds."""
    first, *rest = body["_value"]
    if body["_type"] != "choice":
        return {**body, "_value": [first + (rest[0] - first) / 4 if isinstance(first, float) else first, *rest]}
    other: Any
    if isinstance(first, dict):
        other = {**first, "_name": "Other"} if "_name" in first else dict.fromkeys(first, 99)
    else:
        other = f"{first}, too" if isinstance(first, str) else 99
    return {**body, "_value": [*rest, other]}


class Conversation:
    """A tuner's talk with one experiment: what `trialflow.experiment` does with it, without a store.

    Args:
        tuner: The tuner.
        raw_space: As in an experiment file, without problems.
        seed: Of the experiment.
        mode: Which values are better.
        trials: To go on with, from an earlier conversation.
    """

    def __init__(
        self,
        tuner: Tuner,
        raw_space: JsonObject = SPACE,
        seed: int = 0,
        mode: OptimizeMode = OptimizeMode.MINIMIZE,
        trials: Sequence[PastTrial] = (),
    ) -> None:
        space, problems = parse_search_space(raw_space)
        assert not problems, problems
        self._tuner, self._space, self._seed, self._mode = tuner, space, seed, mode
        self.trials = list(trials)

    def answer(self) -> Suggestion | NoSuggestion:
        """What the tuner says; no trial is made of it."""
        return self._tuner.suggest(History(self._space, self._mode, tuple(self.trials), self._seed))

    def ask(self) -> tuple[int, JsonObject]:
        """The number and the parameters of the next trial; while the tuner waits, the oldest live trial ends."""
        while (answer := self.answer()) is NoSuggestion.WAIT:
            oldest = next(trial.number for trial in self.trials if trial.live)
            self.tell(oldest, float(oldest))
        assert isinstance(answer, Suggestion), answer
        # As they come out of the store.
        parameters, note = json.loads(json.dumps([answer.parameters, answer.note], allow_nan=False))
        self.trials.append(PastTrial(len(self.trials), parameters, live=True, note=note))
        return len(self.trials) - 1, parameters

    def give(self, parameters: JsonObject, value: float | None = None) -> int:
        """The number of a trial that a person gave; it lives while it has no value."""
        self.trials.append(PastTrial(len(self.trials), parameters, live=value is None, value=value, given=True))
        return len(self.trials) - 1

    def tell(self, number: int, value: float | None, **others: float) -> None:
        """The trial has ended with this final metric; without one, it failed.

        Where nothing else is said, the metric carries a second objective, ``cost``.
        """
        if not others and value is not None:
            others = {"cost": (abs(value) * 7) % 5}
        self.trials[number] = replace(self.trials[number], live=False, value=value, others=others)

    def fail(self, number: int) -> None:
        """The trial failed."""
        self.tell(number, None)

    def stop(self, number: int, metric: float) -> None:
        """The assessor stopped the trial after this intermediate metric."""
        self.tell(number, metric if self._tuner.spec.include_intermediate_results else None)

    def run(self, trials: int, objective: Callable[[JsonObject], float] | None = None) -> list[JsonObject]:
        """Ask and tell one trial after the other; the value is the trial's number when no objective is given."""
        suggested = []
        for _ in range(trials):
            number, parameters = self.ask()
            self.tell(number, float(number) if objective is None else objective(parameters))
            suggested.append(parameters)
        return suggested

    def live_through_everything(self) -> None:
        """Twelve trials with every kind of ending, three of which are still running when it is over."""
        asked = [self.ask()[0] for _ in range(12)]
        for number in asked[:6]:
            self.tell(number, float(number % 4))
        self.fail(asked[6])
        self.stop(asked[7], 2.0)
        self.tell(asked[8], None)


class TunerContract:
    """Needs the fixtures ``tuner`` and ``raw_space``: a search space with everything that the tuner takes."""

    def test_the_same_seeds_and_results_give_the_same_suggestions(self, tuner: Tuner, raw_space: JsonObject) -> None:
        first, second = (Conversation(tuner, raw_space, seed=1).run(14) for _ in range(2))
        assert first == second

    def test_every_suggestion_lies_in_the_search_space(self, tuner: Tuner, raw_space: JsonObject) -> None:
        space, _ = parse_search_space(raw_space)
        listed = [option.value for option in space.parameters[0].options]
        for parameters in Conversation(tuner, raw_space, seed=2).run(20):
            assert parameters in listed or space.encode(parameters)

    def test_it_refuses_what_it_does_not_take_and_names_the_parameter(self, tuner: Tuner) -> None:
        for kind, body in EVERY_TYPE.items():
            problems = check_space(tuner.spec, parse_search_space({"p": body})[0])
            if kind in tuner.types and kind != "choice":
                assert not problems
            elif kind not in tuner.types:
                assert problems[0].field == "p._type"
                assert tuner.spec.name in problems[0].rule
                assert problems[0].value == f'"{kind}"'
                assert problems[0].remedy

    def test_it_refuses_nested_options_unless_it_takes_them(self, tuner: Tuner) -> None:
        problems = check_space(tuner.spec, parse_search_space({"layer": SPACE["layer"]})[0])
        if not tuner.takes_nested:
            assert problems[0].field == "layer._value"
            assert "options with parameters of their own" in problems[0].rule

    def test_suggestions_that_are_asked_for_in_parallel_differ(self, tuner: Tuner, raw_space: JsonObject) -> None:
        conversation = Conversation(tuner, raw_space)
        conversation.run(11)
        asked = [json.dumps(conversation.ask()[1]) for _ in range(6)]
        assert len(set(asked)) == 6

    def test_it_goes_on_whatever_became_of_the_trials(self, tuner: Tuner, raw_space: JsonObject) -> None:
        conversation = Conversation(tuner, raw_space)
        conversation.live_through_everything()
        for _ in range(12):
            conversation.fail(conversation.ask()[0])

    def test_it_waits_only_for_live_trials(self, tuner: Tuner, raw_space: JsonObject) -> None:
        conversation = Conversation(tuner, raw_space)
        for step in range(24):
            if conversation.answer() is NoSuggestion.WAIT:
                live = [trial.number for trial in conversation.trials if trial.live]
                assert live
                conversation.tell(live[0], float(step))
            else:
                number, _ = conversation.ask()
                if step % 3:
                    conversation.tell(number, float(step))

    def test_it_takes_what_a_person_gives_and_suggests_nothing_of_it_again(
        self, tuner: Tuner, raw_space: JsonObject
    ) -> None:
        later = Conversation(tuner, raw_space).run(6)
        conversation = Conversation(tuner, raw_space)
        given = [conversation.give(parameters, float(value)) for value, parameters in enumerate(later[3:5])]
        given.append(conversation.give(later[5]))
        conversation.give({"no": "parameter of the space"}, 0.5)
        suggested = conversation.run(9)
        conversation.tell(given[-1], None)
        suggested += conversation.run(3)
        known = [conversation.trials[number].parameters for number in given]
        assert not [parameters for parameters in suggested if parameters in known]

    def test_it_goes_on_in_a_search_space_that_was_changed(self, tuner: Tuner, raw_space: JsonObject) -> None:
        before = Conversation(tuner, raw_space)
        before.run(9)
        before.ask()
        changed = {name: _change(body) for name, body in raw_space.items()}
        space, _ = parse_search_space(changed)
        listed = [option.value for option in space.parameters[0].options]
        after = Conversation(tuner, changed, trials=before.trials)
        for _ in range(4):
            if isinstance(answer := after.answer(), Suggestion):
                number, parameters = after.ask()
                assert parameters in listed or space.encode(parameters)
                after.tell(number, 0.5)
            else:
                assert answer is NoSuggestion.EXHAUSTED or any(trial.live for trial in after.trials)

    def test_a_fresh_instance_goes_on_as_one_that_never_stopped(self, tuner: Tuner, raw_space: JsonObject) -> None:
        unbroken, broken = Conversation(tuner, raw_space), Conversation(type(tuner)(tuner.spec), raw_space)
        suggestions = []
        for conversation in (unbroken, broken):
            conversation.live_through_everything()
        for _ in range(20):
            number, parameters = unbroken.ask()
            unbroken.tell(number, 1.0)
            broken = Conversation(type(tuner)(tuner.spec), raw_space, trials=broken.trials)
            suggestions.append((parameters, broken.ask()[1]))
            broken.tell(number, 1.0)
        assert [one for one, _ in suggestions] == [other for _, other in suggestions]

    def test_it_goes_in_the_direction_that_is_asked_for(self, tuner: Tuner, raw_space: JsonObject) -> None:
        down = Conversation(tuner, raw_space, mode=OptimizeMode.MINIMIZE).run(16, lambda _: 1.0)
        numbers = count()
        up = Conversation(tuner, raw_space, mode=OptimizeMode.MAXIMIZE).run(16, lambda _: 1.0)
        assert down == up
        falling = Conversation(tuner, raw_space, mode=OptimizeMode.MINIMIZE).run(16, lambda _: -float(next(numbers)))
        numbers = count()
        rising = Conversation(tuner, raw_space, mode=OptimizeMode.MAXIMIZE).run(16, lambda _: float(next(numbers)))
        assert falling == rising

    def test_an_unknown_class_argument_is_refused_with_its_name_and_the_remedy(self, tuner: Tuner) -> None:
        args = {"optimize_mode": "minimize", **tuner.spec.class_args, "no_such_argument": 17}
        section: Any = "advisor" if tuner.spec.name in ADVISORS else "tuner"
        (problem,) = check_tuner(replace(tuner.spec, class_args=args), _place, section=section, v2=True)
        assert problem.field == f"{section}.classArgs.no_such_argument"
        assert problem.rule.startswith(f"{tuner.spec.name}: ")
        assert problem.value == "17"
        assert problem.remedy.startswith(f"Arguments of {tuner.spec.name}: ")


class AssessorContract:
    """Needs the fixture ``assessor``, which maximises; its ``classArgs`` are complete."""

    HISTORIES = tuple([0.1 * rank + 0.05 * step for step in range(12)] for rank in range(8))

    def test_nothing_is_stopped_while_there_is_nothing_to_compare_it_with(self, assessor: Assessor) -> None:
        assert assessor.is_good([0.5], [])
        assert assessor.is_good([0.5, 0.6, 0.7], [[0.5]])

    def test_a_trial_that_is_better_than_all_others_goes_on(self, assessor: Assessor) -> None:
        best = [5.0 + step for step in range(12)]
        assert all(assessor.is_good(best[:length], self.HISTORIES) for length in range(1, 13))

    def test_a_hopeless_trial_is_stopped(self, assessor: Assessor) -> None:
        assert not all(assessor.is_good([-5.0] * length, self.HISTORIES) for length in range(1, 13))

    def test_the_order_of_the_completed_trials_does_not_matter(self, assessor: Assessor) -> None:
        for rank, history in enumerate(self.HISTORIES):
            there, back = (assessor.is_good(history[:9], others) for others in (self.HISTORIES, self.HISTORIES[::-1]))
            assert there == back, rank

    def test_a_question_asked_twice_gets_the_same_answer(self, assessor: Assessor) -> None:
        once = [assessor.is_good(history[:9], self.HISTORIES) for history in self.HISTORIES]
        assert [assessor.is_good(history[:9], self.HISTORIES) for history in self.HISTORIES] == once

    def test_an_unknown_class_argument_is_refused_with_its_name_and_the_remedy(self, assessor: Assessor) -> None:
        spec = replace(assessor.spec, class_args={**assessor.spec.class_args, "no_such_argument": 17})
        (problem,) = check_assessor(spec, _place)
        assert problem.field == "assessor.classArgs.no_such_argument"
        assert problem.rule.startswith(f"{assessor.spec.name}: ")
        assert problem.value == "17"
        assert problem.remedy.startswith(f"Arguments of {assessor.spec.name}: ")


def _place(field: tuple[str, ...], rule: str, value: str | None = None, remedy: str = "") -> Problem:
    return Problem(".".join(field), rule, value, remedy)
