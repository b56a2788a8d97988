"""Reading what a trial reports: the metrics file that NNI's SDK appends to.

A record is ``ME``, six decimal digits (the length in bytes of what follows, newline included), a JSON object and a
newline. NNI 1.x writes the metric's value as it is, 2.x and 3.0 as a JSON text of it; both are read.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trialflow.records import DEFAULT, Metric, MetricType
from trialflow.trial_files import read_part

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

METRICS_FILE = ".nni/metrics"
_HEADER = re.compile(rb"ME(\d{6})")
_HEADER_BYTES = 8
# What is read of a trial's file in one step, so that a trial that writes without end holds up no other one.
_CHUNK_BYTES = 1 << 20
# What is read of it in all, and again of records that turn out to be none: half a million metrics.
_MOST_BYTES = 64 << 20


@dataclass
class MetricsTail:
    """Follows one metrics file; give it the same file again and again, it reads only what is new.

    Attributes:
        root: A folder of ours that the file lies below, see `trial_files`.
        path: The file; it need not exist yet.
        skipped_bytes: What was passed over because it was no record.
        has_more: Whether the last call left something for the next one.
    """

    root: Path
    path: Path
    skipped_bytes: int = 0
    has_more: bool = False
    _patience: int = _MOST_BYTES
    _offset: int = 0
    _rest: bytes = b""
    _counts: Counter[MetricType] = field(default_factory=Counter)

    def read(self) -> list[Metric]:
        """The records that were completed since the last call, or the first of them when there are very many.

        A record that is cut off at the end of the file is kept back until the rest of it is there.
        """
        chunk = self._read_chunk()
        if not chunk:
            return []
        self._rest += chunk
        return self._take_records()

    @property
    def unfinished_bytes(self) -> int:
        """Bytes at the end of the file that are not a whole record."""
        return len(self._rest)

    @property
    def is_given_up(self) -> bool:
        """Whether the file is so long, or so much of it broken, that no more of it is read."""
        return self._patience <= 0

    def _read_chunk(self) -> bytes:
        # Opened each time, for what a network file system knows of a file's size may be a minute old.
        try:
            part = read_part(self.root, self.path, self._offset, min(_CHUNK_BYTES, self._patience))
        except FileNotFoundError:
            self.has_more = False
            return b""
        self._offset += len(part.content)
        self._patience -= len(part.content)
        self.has_more = self._offset < part.size and not self.is_given_up
        return part.content

    def _take_records(self) -> list[Metric]:
        records, start = [], 0
        while match := _HEADER.search(self._rest, start):
            end = match.end() + int(match[1])
            is_whole = end <= len(self._rest)
            if not is_whole and self._is_record_start(match.end()):
                break
            metric = self._parse(self._rest[match.end() : end]) if is_whole else None
            if metric is None:
                self.skipped_bytes += match.end() - start
                start = match.end()
                self._patience -= end - start if is_whole else 0
                if self._patience < 0:
                    break
                continue
            self.skipped_bytes += match.start() - start
            records.append(metric)
            start = end
        if match is None and (garbage := len(self._rest) - _HEADER_BYTES + 1 - start) > 0:
            self.skipped_bytes += garbage
            start += garbage
        self._rest = self._rest[start:]
        return records

    def _is_record_start(self, body: int) -> bool:
        """Whether an incomplete body can still become one: it begins like a JSON object."""
        return self._rest[body : body + 1] in (b"", b"{")

    def _parse(self, body: bytes) -> Metric | None:
        try:
            record = json.loads(body)
            kind = MetricType(record["type"])
            value = _plain(record.get("value"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        metric = Metric(kind, self._counts[kind], value, time.time())
        self._counts[kind] += 1
        return metric


def _plain(value: Any) -> Any:
    """The reported value; NNI 2.x and later wrap it in a JSON text, and NaN is no JSON for a database."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    return _finite(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def read_number(value: Any, key: str = DEFAULT) -> tuple[float | None, str]:
    """The number by which a tuner or assessor judges a metric.

    Args:
        value: As reported; an object counts by a key.
        key: The objective; a metric that is not an object has the one that is called ``default``.

    Returns:
        The number and an empty text, or ``None`` and the reason why there is none.
    """
    if isinstance(value, dict):
        if key not in value:
            return None, f"the metric is an object without the key {key!r}"
        value = value[key]
    elif key != DEFAULT:
        return None, f"the metric is no object with the key {key!r}"
    if value in ("nan", "inf", "-inf"):
        return None, f"the metric is {value}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None, f"the metric is {_kind(value)}, not a number"
    try:
        return float(value), ""
    except OverflowError:
        return None, "the metric is too large for a float"


def read_objectives(value: Any, keys: Iterable[str]) -> dict[str, float]:
    """The numbers that a final metric has for these objectives."""
    numbers = {key: read_number(value, key)[0] for key in keys}
    return {key: number for key, number in numbers.items() if number is not None}


def _kind(value: Any) -> str:
    names = {str: "text", bool: "a truth value", list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def judge_final(metrics: list[Metric], objectives: Iterable[str] = (DEFAULT,)) -> tuple[float | None, str]:
    """The value that the tuner is told, from all records of an attempt; the first final metric counts, as in NNI.

    Returns:
        The value and a remark for people (empty when all is as it should be), or ``None`` and the reason.
    """
    finals = [metric for metric in metrics if metric.type is MetricType.FINAL]
    if not finals:
        return None, "no final metric: the trial ended without nni.report_final_result"
    for key in objectives:
        number, reason = read_number(finals[0].value, key)
        if number is None:
            return None, f"no valid final metric: {reason}"
    value = read_number(finals[0].value)[0]
    return value, f"{len(finals)} final metrics were reported, the first counts" if len(finals) > 1 else ""
