"""What many of the unit tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture
def in_time() -> Iterator[None]:
    """Fails a test that is held up, instead of waiting for it."""

    def fail(*_signal: object) -> None:
        raise TimeoutError("it was held up")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
