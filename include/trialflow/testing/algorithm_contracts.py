"""The suites of what suggests parameters and judges metrics; see `trialflow.testing.contracts`."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count, product
from typing import TYPE_CHECKING, Any

from trialflow.assessors import check_assessor
from trialflow.builtin import ADVISORS
from trialflow.messages import Problem
from trialflow.records import (
    JsonObject,
    OptimizeMode,
)
from trialflow.search_space import parse_search_space
from trialflow.tuners import History, NoSuggestion, PastTrial, Suggestion, check_space, check_tuner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trialflow.assessors import Assessor
    from trialflow.tuners import Tuner

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
# Of which the small ones get lost beside the large, and whose distance no float can hold.
WIDE_RESULTS = (0.5, 0.6, 0.7, -1e10, 1e10)
HUGE_RESULTS = (1.7e308, -1.7e308, 0.0)


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

    def test_it_goes_on_with_any_finite_results(self, tuner: Tuner, raw_space: JsonObject) -> None:
        asked = Conversation(tuner, raw_space)
        asked.run(10)
        for mode, values in product(OptimizeMode, (WIDE_RESULTS, HUGE_RESULTS, HUGE_RESULTS[:1])):
            conversation = Conversation(tuner, raw_space, mode=mode, trials=asked.trials)
            for number in range(10):
                value = values[number % len(values)]
                conversation.tell(number, value, cost=value)
            conversation.ask()

    def test_a_finite_space_is_not_exhausted_by_points_from_outside_of_it(self, tuner: Tuner) -> None:
        def small(values: Sequence[int]) -> JsonObject:
            options: list[Any] = [{"x": value} for value in values] if tuner.types == ("choice",) else [*values]
            return {"x": {"_type": "choice", "_value": options}}

        before = Conversation(tuner, small([1, 2, 3]))
        before.run(3)
        for value in (7, 8):
            before.give({"x": value}, 0.5)
        after = Conversation(tuner, small([4, 5, 6]), trials=before.trials)
        assert sorted(parameters["x"] for parameters in after.run(3)) == [4, 5, 6]
        assert after.answer() is NoSuggestion.EXHAUSTED or tuner.spec.name in ADVISORS

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
        (problem,) = check_tuner(replace(tuner.spec, class_args=args), _place, section=section)
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
