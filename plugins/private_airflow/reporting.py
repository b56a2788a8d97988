"""What people read while they wait for Airflow: what has come, after how long, and where to look."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# After so long without news, it is said again what is waited for.
_LATE_SECONDS = 15.0


def say(text: str) -> None:
    """Print a line at once, to whoever is still there to read it."""
    with suppress(OSError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def say_nothing(_text: str) -> None:
    """For programs, which nobody watches."""


@dataclass
class Reporter:
    """Tells of something that takes long."""

    say: Callable[[str], None] = say_nothing
    _began: float = field(default_factory=time.monotonic)
    _last: float = field(default_factory=time.monotonic)
    _awaited: str = ""

    def has_come(self, what: str) -> None:
        """Tell of news, with the time since the beginning."""
        self._last = time.monotonic()
        self.say(f"{self._last - self._began:6.1f} s  {what}")

    def waits_for(self, what: str, log: Path | None = None) -> None:
        """Note what is waited for, and which log tells more."""
        self._awaited = f"{what}; see {log}" if log else what

    def is_late(self) -> None:
        """To be called now and then: says what is waited for when there was no news for long."""
        if time.monotonic() - self._last >= _LATE_SECONDS:
            self.has_come(f"still waiting for {self._awaited}")
