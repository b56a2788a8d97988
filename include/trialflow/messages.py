"""What Trialflow says to people about their input: problems with rule, value and remedy, and quoted values."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Protocol

# Keys whose values are not quoted in messages: passwd, passWord, sshPassphrase, token, storageAccountKey, …
_SECRET = re.compile("pass|pasw|pwd|token|secret|credential|(account|access|api|private)[_-]?key", re.IGNORECASE)
HIDDEN = "…"
# A number with an exponent, of which YAML 1.1 wants to see a point and the exponent's sign.
_WITH_EXPONENT = re.compile(r"([-+]?[0-9]+)(\.[0-9]*)?e([-+]?)([0-9]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an experiment's input.

    Attributes:
        field: Path of the field, ``trial.command``; empty when the whole file is meant.
        rule: What has to hold.
        value: What was found, as it should be shown; ``None`` when nothing was there.
        remedy: What to do about it.
        file: The file in which the field stands; empty for an inline experiment.
        line: Line of the field in that file, counted from 1.
    """

    field: str
    rule: str
    value: str | None = None
    remedy: str = ""
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        parts = [part for part in (place, self.field) if part]
        text = f"{': '.join([*parts, self.rule])}"
        if self.value is not None:
            text += f"; got {self.value}"
        return f"{text}. {self.remedy}" if self.remedy else f"{text}."


class ProblemMaker(Protocol):
    """Makes a problem with a field of the experiment file, with its file and line."""

    def __call__(self, field: tuple[str, ...], rule: str, value: str | None = None, remedy: str = "", /) -> Problem: ...


def show(value: Any, max_length: int = 60) -> str:
    """A value as it is quoted in a message: JSON, shortened, without secrets."""
    value = _without_secrets(value)
    try:
        text = printable(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError):
        text = printable(repr(value))
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


def is_secret(key: str) -> bool:
    """Whether what stands under a key is nobody's business."""
    return _SECRET.search(key) is not None


def printable(text: str) -> str:
    """The text on one line and in UTF-8, whatever a file name or an escape in a file put into it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def number_remedy(value: Any, file: str = "") -> str:
    """What to do about a text in the place of a number; empty when it is no number in disguise.

    Args:
        value: As it was read from YAML or JSON.
        file: Where from; in JSON every text has quotes.
    """
    try:
        float(value if isinstance(value, str) else "")
    except ValueError:
        return ""
    match = _WITH_EXPONENT.fullmatch(value)
    written = f"{match[1]}{match[2] or '.0'}e{match[3] or '+'}{match[4]}" if match else value
    if written.lower() == value.lower() or file.endswith(".json"):
        return "Remove the quotes"
    return f"YAML reads {value} as text; write {written}"


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: HIDDEN if is_secret(str(key)) else _without_secrets(item) for key, item in value.items()}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value
