"""What an update may bring: a search space and a duration as people write them into files."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from trialflow.config.source import MAX_FILE_BYTES
from trialflow.errors import ConfigError
from trialflow.records import Experiment, ExperimentStatus
from trialflow.store import Adjustable
from trialflow.testing import make_spec

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # What Airflow's web application brings along is deprecated.
    from trialflow_airflow.web import routes

SPACE = {"x": {"_type": "loguniform", "_value": [1e-5, 1]}}


@pytest.mark.parametrize(
    "text",
    [
        '{"x": {"_type": "loguniform", "_value": [1e-5, 1]}}',
        "x:\n  _type: loguniform\n  _value: [1.0e-5, 1]  # of nine\n",
        "{x: {_type: loguniform, _value: [0.00001, 1]}}",
    ],
)
def test_a_search_space_comes_as_json_or_yaml(text: str) -> None:
    assert routes._read(Adjustable.SEARCH_SPACE, text) == SPACE


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("x: [1", "params.searchSpace:1: is not valid YAML"),
        ('{"x": 1, "x": 2}', "the key 'x' stands twice"),
        ("#" * (MAX_FILE_BYTES + 1), "must not be larger than 1048576 bytes"),
    ],
)
def test_a_search_space_that_cannot_be_read_is_refused(text: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        routes._read(Adjustable.SEARCH_SPACE, text)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7200", 7200), ("2h", 7200), ("0.5", 1), (7200.5, 7200.5), ("2 weeks", "2 weeks"), ("0", "0")],
)
def test_a_duration_comes_with_a_unit_or_in_seconds(value: Any, seconds: Any) -> None:
    assert routes._read(Adjustable.DURATION, value) == seconds


EXPERIMENT = Experiment(
    "expaaaaa", make_spec(search_space=SPACE), ExperimentStatus.RUNNING, "", "/none", None, 2, 9, 60.0, 0.0, None, None
)


@pytest.mark.parametrize(
    ("update_type", "params", "value"),
    [
        ("MAX_TRIAL_NUM", {"maxTrialNum": 12}, 12),
        ("MAX_TRIAL_NUM", {"maxTrialNumber": 12}, 12),
        ("MAX_TRIAL_NUM", {"maxTrialNum": 9, "maxTrialNumber": 12}, 12),
        ("MAX_TRIAL_NUM", {"maxTrialNum": 12, "maxTrialNumber": 9}, 12),
        ("MAX_TRIAL_NUM", {"maxTrialNum": 9, "maxTrialNumber": 9}, 9),
        ("MAX_EXEC_DURATION", {"maxExecDuration": 60, "maxExperimentDuration": "2h"}, 7200),
        ("MAX_EXEC_DURATION", {"maxExecDuration": "60", "maxExperimentDuration": "1m"}, 60),
        ("SEARCH_SPACE", {"searchSpace": SPACE}, SPACE),
    ],
)
def test_of_a_whole_profile_the_value_that_is_new_counts(update_type: Any, params: dict[str, Any], value: Any) -> None:
    found = routes._find_new_value(EXPERIMENT, update_type, routes.NewParams(**params))
    assert found[1] == value


@pytest.mark.parametrize(
    ("params", "rule"),
    [
        ({}, "params.maxTrialNumber: is needed for MAX_TRIAL_NUM"),
        ({"maxTrialNum": 12, "maxTrialNumber": 13}, "params.maxTrialNumber: must be the same as params.maxTrialNum"),
    ],
)
def test_an_update_without_one_new_value_is_refused(params: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        routes._find_new_value(EXPERIMENT, "MAX_TRIAL_NUM", routes.NewParams(**params))
