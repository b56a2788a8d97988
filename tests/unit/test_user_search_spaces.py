"""Search spaces that only a tuner or advisor of the user's own understands, or that it does without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from trialflow.errors import ConfigError
from trialflow.experiment.loading import load_experiment
from trialflow.experiment.operating.actions import Actions
from trialflow.experiment.showing.study import StudySource, find_importances
from trialflow.records import Slot, Trial
from trialflow.search_space import parse_search_space
from trialflow.settings import Settings
from trialflow.store import Adjustable

from .lab import RUN, live_a_trial, study_of
from .user_class_lab import TUNER, make_experiment, own, tuner_that, write_file

OWN_TYPES = [{"x": [1, 100]}, {"x": {"_type": "my", "_value": "abc"}}, {"x": 3, "y": {"_type": "choice"}}, {}]
# What x is, is for the tuner to say; y is one of NNI's.
SPACE = {"x": [1, 100], "y": {"_type": "uniform", "_value": [0, 1]}}
DRAWS = tuner_that("""
    def generate_parameters(self, parameter_id, **kwargs):
        return {"x": self.space["x"][1] - parameter_id, "y": 0.25, "z": ["its own"]}
    def receive_trial_result(self, parameter_id, parameters, value, **kwargs):
        pass
    """)


def load(file: Path, home: Path) -> Any:
    return load_experiment(str(file), Settings(home=home), preflight=False).search_space


def rewrite(file: Path, **changes: Any) -> Path:
    data = {**yaml.safe_load(file.read_text()), **changes}
    file.write_text(yaml.safe_dump({key: value for key, value in data.items() if value is not None}))
    return file


@pytest.mark.parametrize("v2", [False, True])
@pytest.mark.parametrize("section", ["tuner", "advisor"])
@pytest.mark.parametrize("space", OWN_TYPES)
def test_a_class_of_the_user_s_own_has_types_of_its_own(tmp_path: Path, space: Any, section: str, v2: bool) -> None:
    file = rewrite(write_file(tmp_path, section, v2), searchSpace=space)

    assert load(file, tmp_path / "home") == space


@pytest.mark.parametrize("v2", [False, True])
def test_a_class_of_the_user_s_own_reads_the_file_as_it_is_or_needs_none(tmp_path: Path, v2: bool) -> None:
    file = rewrite(write_file(tmp_path, "tuner", v2), searchSpace=None)
    assert load(file, tmp_path / "home") == {}

    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    rewrite(file, **{"searchSpaceFile" if v2 else "searchSpacePath": "space.json"})
    assert load(file, tmp_path / "home") == SPACE


@pytest.mark.parametrize("space", ['["x"]', "{x: .nan}", "{x: 2026-01-01}"])
def test_what_no_class_can_be_handed_is_refused(tmp_path: Path, space: str) -> None:
    file = rewrite(write_file(tmp_path, "tuner", v2=False), searchSpace=None, searchSpacePath="space.yml")
    (tmp_path / "space.yml").write_text(space)

    with pytest.raises(ConfigError, match="must be an object of finite JSON values"):
        load(file, tmp_path / "home")


def test_only_a_class_that_suggests_has_types_of_its_own(tmp_path: Path) -> None:
    file = rewrite(write_file(tmp_path, "assessor", v2=False), searchSpace={"x": [1, 100]})

    with pytest.raises(ConfigError, match="must be an object with _type and _value"):
        load(file, tmp_path / "home")


@pytest.mark.parametrize(("space", "latents"), [(SPACE, {"y": 0.25}), ({"x": [1, 100]}, {})])
def test_an_experiment_with_types_of_its_own_lives_to_its_end(tmp_path: Path, space: Any, latents: Any) -> None:
    steps = make_experiment(tmp_path, tuner=own(tmp_path, DRAWS), search_space=space, max_trial_number=3)
    actions = Actions(steps.context.id, "somebody", steps.context.settings)
    first = live_a_trial(steps, Slot(1, 0), RUN)
    actions.change(Adjustable.SEARCH_SPACE, {"x": [1, 50]})
    second = live_a_trial(steps, Slot(1, 1), RUN)
    actions.add({"w": 9, "x": 5})
    assert actions.import_data([{"parameter": {"v": 1}, "value": 1}]) == {"imported": 1, "known": 0, "fit": 1}
    third = live_a_trial(steps, Slot(1, 2), RUN)

    result = steps.conclude()

    assert [trial.parameters for trial in (first, second, third) if isinstance(trial, Trial)] == [
        {"x": 100, "y": 0.25, "z": ["its own"]}, {"x": 49, "y": 0.25, "z": ["its own"]}, {"w": 9, "x": 5},
    ]  # fmt: skip
    assert [trial.params for trial in study_of(steps).trials] == [latents, {}, {}, {}]
    assert study_of(steps).trials[0].user_attrs["x"] == 100
    assert result.best is not None
    assert find_importances(StudySource.read(steps.context.store, steps.context.id)) == {}
    steps.close_run(1, RUN)


def test_a_changed_space_of_its_own_types_must_still_be_finite(tmp_path: Path) -> None:
    context = make_experiment(tmp_path, tuner=own(tmp_path, TUNER)).context
    actions = Actions(context.id, "somebody", context.settings)

    with pytest.raises(ConfigError, match="must be an object of finite JSON values"):
        actions.change(Adjustable.SEARCH_SPACE, {"x": float("nan")})


def test_of_two_parameters_with_one_path_neither_counts() -> None:
    nested = {"_type": "choice", "_value": [{"_name": "A", "k": SPACE["y"]}]}

    space, problems = parse_search_space({"a": nested, "a/A/k": SPACE["y"], "b": SPACE["y"]})

    assert [parameter.label for parameter in space.walk()] == ["b"]
    assert [problem.field for problem in problems] == ["a/A/k"]
