"""Waiting costs less the longer it takes."""

from __future__ import annotations

import pytest

from trialflow_airflow import waiting


def test_looks_become_rarer_within_bounds_and_a_wait_ends_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now)
    wait, unlimited = waiting.Patience(limit_seconds=20), waiting.Patience()
    expected = {100.0: (0.05, False), 100.4: (0.05, False), 103.0: (0.3, False), 119.9: (1.0, False), 120: (1.0, True)}
    for now, (pause, is_over) in expected.items():  # noqa: B007  # the clock reads it
        assert (round(wait.pause_seconds, 3), wait.is_over, unlimited.is_over) == (pause, is_over, False)
