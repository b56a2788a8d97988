"""Finding what NNI's documentation asks the user to fill in, such as ``{your_nfs_server_ip}``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from trialflow.config.fields import OPAQUE
from trialflow.messages import missing_blank, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trialflow.config.source import FieldPath, Source
    from trialflow.messages import Problem

RULE = "still holds a placeholder"
REMEDY = "Replace it, braces included"
_IN_TEXT = re.compile(r"\$?\{\s*(?:your|replace)[^{}]*\}", re.IGNORECASE)
_NAME = re.compile(r"your|replace", re.IGNORECASE)


def find_placeholders(source: Source) -> list[Problem]:
    """Every field of a document, as it was written, that nobody has filled in."""
    return [source.problem(path, RULE, printable(text), REMEDY) for path, text in _find(source.data, ())]


def _find(value: Any, path: FieldPath) -> Iterator[tuple[FieldPath, str]]:
    if isinstance(value, str) and (match := _IN_TEXT.search(value)):
        yield path, match[0]
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _find(item, (*path, str(index)))
    elif isinstance(value, dict) and (name := unfilled_name(value)) and _NAME.match(name):
        yield path, f"{{{name}}}"
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in OPAQUE:
                yield from _find(item, (*path, str(key)))


def unfilled_name(value: Any) -> str | None:
    """The name in a placeholder that YAML read as a mapping: ``{your_server_ip}`` without quotes."""
    if isinstance(value, dict) and len(value) == 1 and next(iter(value.values())) is None and not missing_blank(value):
        return str(next(iter(value)))
    return None
