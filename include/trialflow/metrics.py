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

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

METRICS_FILE = ".nni/metrics"
_HEADER = re.compile(rb"ME(\d{6})")
_HEADER_BYTES = 8
# What is read of a trial's file in one step, so that a trial that writes without end cannot fill our memory.
_CHUNK_BYTES = 4 << 20


@dataclass
class MetricsTail:
    """Follows one metrics file; give it the same file again and again, it reads only what is new.

    Attributes:
        path: The file; it need not exist yet.
        skipped_bytes: What was passed over because it was no record.
    """

    path: Path
    skipped_bytes: int = 0
    _offset: int = 0
    _rest: bytes = b""
    _counts: Counter[MetricType] = field(default_factory=Counter)

    def read(self) -> list[Metric]:
        """The records that were completed since the last call.

        A record that is cut off at the end of the file is kept back until the rest of it is there.
        """
        found: list[Metric] = []
        while chunk := self._read_chunk():
            self._rest += chunk
            found += self._take_records()
        return found

    @property
    def unfinished_bytes(self) -> int:
        """Bytes at the end of the file that are not a whole record."""
        return len(self._rest)

    def _read_chunk(self) -> bytes:
        # Opened each time, for what a network file system knows of a file's size may be a minute old.
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                chunk = file.read(_CHUNK_BYTES)
        except FileNotFoundError:
            return b""
        self._offset += len(chunk)
        return chunk

    def _take_records(self) -> list[Metric]:
        records, start = [], 0
        while match := _HEADER.search(self._rest, start):
            end = match.end() + int(match[1])
            if end > len(self._rest):
                if not self._is_record_start(match.end()):
                    self.skipped_bytes += match.end() - start
                    start = match.end()
                    continue
                break
            metric = self._parse(self._rest[match.end() : end])
            if metric is None:
                self.skipped_bytes += match.end() - start
                start = match.end()
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
