"""What an update may bring: a search space and a duration as people write them into files."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from trialflow.config.source import MAX_FILE_BYTES
from trialflow.errors import ConfigError
from trialflow.store import Adjustable

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
