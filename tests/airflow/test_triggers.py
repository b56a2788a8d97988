"""When triggers hand their tasks back; no Airflow runs for that."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from trialflow_airflow import triggers

PAUSE_SECONDS = 0.5


def test_no_task_is_resumed_before_airflow_knows_that_it_has_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_context(_: str) -> None:
        pass

    async def fire() -> float:
        began = time.monotonic()
        await anext(triggers.ExperimentTrigger("expaaaaa", "idle").run())
        return time.monotonic() - began

    monkeypatch.setattr(triggers, "_open_context", open_context)
    monkeypatch.setattr(triggers, "TrialSteps", lambda _: SimpleNamespace(is_idle=lambda: True))
    monkeypatch.setattr(triggers, "recovery_seconds", lambda: PAUSE_SECONDS)
    assert asyncio.run(fire()) >= PAUSE_SECONDS


def test_the_pause_is_longer_than_airflow_may_take_to_see_the_end_of_a_process() -> None:
    from airflow.sdk.execution_time.supervisor import MIN_HEARTBEAT_INTERVAL

    assert triggers.recovery_seconds() > MIN_HEARTBEAT_INTERVAL
