"""How often whoever waits looks again."""

from __future__ import annotations

import time

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.05, 1.0
# Of what was waited so far: it is so much that a look may come too late, and the looks become rarer.
_SHARE = 0.1


class Patience:
    """A wait that began now.

    Many tasks wait at a time, and each look asks the store: those that wait for long may not keep a processor busy.

    Args:
        limit_seconds: After which it is over.
    """

    def __init__(self, limit_seconds: float = float("inf")) -> None:
        self._began = time.monotonic()
        self._limit_seconds = limit_seconds

    @property
    def is_over(self) -> bool:
        """Whether it has reached its limit."""
        return self._waited >= self._limit_seconds

    @property
    def pause_seconds(self) -> float:
        """How long to pause before the next look."""
        return min(max(_SHARE * self._waited, _SHORTEST_SECONDS), _LONGEST_SECONDS)

    @property
    def _waited(self) -> float:
        return time.monotonic() - self._began
