"""What Trialflow says to people about their input: problems with rule, value and remedy, and quoted values."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

# Keys whose values are not quoted in messages: passwd, passWord, sshPassphrase, token, storageAccountKey, …
_SECRET = re.compile("pass|pasw|pwd|token|secret|credential|(account|access|api|private)[_-]?key", re.IGNORECASE)
HIDDEN = "…"
# Of a message that quotes what somebody wrote: a path has at most 4096 characters.
_LONGEST_PART = 5000
# A key and a value with no blank between them; neither a URL nor a Windows path.
BLANK_MISSING = re.compile(r"""(?:-\s+)?(["']?)([A-Za-z_][\w-]*)\1:(?!//)([^\s:/\\].*|\.{0,2}/.*)""")


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
        where = f"{self.file}:{self.line}" if self.file and self.line else self.file
        parts = [part for part in (where, cut(self.field, _LONGEST_PART)) if part]
        text = f"{': '.join([*parts, cut(self.rule, _LONGEST_PART)])}"
        if self.value is not None:
            text += f"; got {cut(self.value, _LONGEST_PART)}"
        return f"{text}. {cut(self.remedy, _LONGEST_PART)}" if self.remedy else f"{text}."


class ProblemMaker(Protocol):
    """Makes a problem with a field of the experiment file, with its file and line."""

    def __call__(self, field: tuple[str, ...], rule: str, value: str | None = None, remedy: str = "", /) -> Problem: ...


def show(value: Any, max_length: int = 60) -> str:
    """A value as it is quoted in a message: JSON, shortened, without secrets."""
    value = _without_secrets(value)
    try:
        text = json.dumps(value, ensure_ascii=False, default=_date)
    except (TypeError, ValueError):
        text = repr(value)
    return cut(printable(text[: max_length + 1]), max_length)


def cut(text: str, length: int) -> str:
    """A text of at most this length."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _date(value: Any) -> str:
    """YAML's dates and times as they are written."""
    if not isinstance(value, date):
        raise TypeError
    return str(value)


def is_secret(key: str) -> bool:
    """Whether what stands under a key is nobody's business."""
    return _SECRET.search(key) is not None


def printable(text: str) -> str:
    """The text on one line and in UTF-8, whatever a file name or an escape in a file put into it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def is_formula(text: str) -> bool:
    """Whether a spreadsheet may execute a cell with this text; some begin to read behind a blank of any kind."""
    return text.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def number_remedy(value: Any) -> str:
    """What to do about a text in the place of a number; empty when it is no number in disguise."""
    try:
        float(value if isinstance(value, str) else "")
    except ValueError:
        return ""
    return "Remove the quotes"


def close_remedy(value: Any, choices: Iterable[str]) -> str:
    """Of the texts that are allowed, the one that differs in case only or is spelled much alike; empty for none."""
    written, known = str(value), list(choices)
    same = [choice for choice in known if choice.lower() == written.lower()]
    close = same or difflib.get_close_matches(written, known, n=1)
    return f"Write {close[0]}" if close else ""


def missing_blank(value: Any) -> str:
    """What to write instead where somebody left out the blank behind a colon; empty when nobody did.

    Args:
        value: What was read in the place of keys with values: YAML makes a text of ``a:1``, and of ``{a:1}`` a key.
    """
    if isinstance(value, dict):
        parts = [key for key, item in value.items() if item is None and isinstance(key, str)]
    else:
        parts = value.split() if isinstance(value, str) else []
    found = [match for part in parts if (match := BLANK_MISSING.fullmatch(part))]
    return ", ".join(f"{match[2]}: {match[3]}" for match in found)


def blank_remedy(value: Any) -> str:
    """`missing_blank` as a remedy."""
    written = missing_blank(value)
    return f"Write a blank after the colon: {written}" if written else ""


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: HIDDEN if is_secret(str(key)) else _without_secrets(item) for key, item in value.items()}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value
