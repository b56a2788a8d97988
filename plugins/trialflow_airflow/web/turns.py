"""Work that one request does at a time, while few others wait."""

from __future__ import annotations

from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING

from trialflow.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Turns:
    """Lets one in at a time. Whoever waits holds one of the server's threads, so only a few may, and not for long.

    Args:
        what: What is done meanwhile, for people.
        may_wait: How many requests may wait.
        patience_seconds: How long each may.
    """

    def __init__(self, what: str, may_wait: int, patience_seconds: float) -> None:
        self._busy = f"{what} already; try again in a moment"
        self._lock = Lock()
        self._waiting = BoundedSemaphore(may_wait)
        self._patience_seconds = patience_seconds

    @contextmanager
    def take(self) -> Iterator[None]:
        """Wait for one's turn.

        Raises:
            ConflictError: Too many wait, or it takes too long.
        """
        if not self._waiting.acquire(blocking=False):
            raise ConflictError(self._busy)
        try:
            is_mine = self._lock.acquire(timeout=self._patience_seconds)
        finally:
            self._waiting.release()
        if not is_mine:
            raise ConflictError(self._busy)
        try:
            yield
        finally:
            self._lock.release()
