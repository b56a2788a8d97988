"""The metrics file: whole records, cut records and everything else that lies in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from trialflow.metrics import MetricsTail, judge_final, read_number
from trialflow.records import Metric, MetricType

# As nni 3.0 wrote them.
REAL_PERIODICAL = (
    b'ME000098{"parameter_id": 0, "trial_job_id": "abcde", "type": "PERIODICAL", "sequence": 0, "value": "0.5"}\n'
)
REAL_FINAL = (
    b'ME000123{"parameter_id": 0, "trial_job_id": "abcde", "type": "FINAL", "sequence": 0, '
    b'"value": "{\\"default\\": 0.7, \\"loss\\": 0.1}"}\n'
)


def record(value: Any, kind: str = "PERIODICAL") -> bytes:
    body = json.dumps({"parameter_id": 0, "trial_job_id": "abcde", "type": kind, "value": value}).encode() + b"\n"
    return b"ME%06d" % len(body) + body


def read_all(tmp_path: Path, content: bytes) -> tuple[list[Any], MetricsTail]:
    path = tmp_path / "metrics"
    path.write_bytes(content)
    tail = MetricsTail(tmp_path, path)
    return [metric.value for metric in tail.read()], tail


def final(*values: Any) -> list[Metric]:
    return [Metric(MetricType.FINAL, sequence, value, 0.0) for sequence, value in enumerate(values)]


def test_the_records_of_the_real_sdk_are_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    path.write_bytes(REAL_PERIODICAL + REAL_FINAL)
    tail = MetricsTail(tmp_path, path)
    found = [(metric.type, metric.sequence, metric.value) for metric in tail.read()]
    assert found == [(MetricType.PERIODICAL, 0, 0.5), (MetricType.FINAL, 0, {"default": 0.7, "loss": 0.1})]
    assert (tail.skipped_bytes, tail.unfinished_bytes) == (0, 0)


def test_a_file_that_does_not_exist_yet_has_no_records(tmp_path: Path) -> None:
    tail = MetricsTail(tmp_path, tmp_path / "metrics")
    assert tail.read() == []
    (tmp_path / "metrics").write_bytes(record(1))
    assert [metric.value for metric in tail.read()] == [1]
    assert tail.read() == []


@pytest.mark.parametrize("cut", range(1, len(REAL_PERIODICAL)))
def test_a_record_that_was_cut_anywhere_is_read_when_the_rest_is_there(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "metrics"
    path.write_bytes(REAL_FINAL + REAL_PERIODICAL[:cut])
    tail = MetricsTail(tmp_path, path)
    assert [metric.type for metric in tail.read()] == [MetricType.FINAL]
    assert tail.unfinished_bytes == cut
    with path.open("ab") as file:
        file.write(REAL_PERIODICAL[cut:] + REAL_PERIODICAL)
    assert [(metric.sequence, metric.value) for metric in tail.read()] == [(0, 0.5), (1, 0.5)]
    assert (tail.skipped_bytes, tail.unfinished_bytes) == (0, 0)


@pytest.mark.parametrize(
    "garbage",
    [
        b"Epoch 1\n",
        b"ME",
        b"ME00",
        b"ME000005",
        b"ME000010not json\n\n",
        b"ME000003{}\n",
        b"ME999999x",
        bytes(range(256)),
        b"\x00\xff" * 500,
        record(1, kind="UNKNOWN"),
        b'ME000016{"type": "FINAL',
    ],
)
def test_garbage_between_two_records_hides_neither(tmp_path: Path, garbage: bytes) -> None:
    values, tail = read_all(tmp_path, record(1) + garbage + record(2))
    assert values == [1, 2]
    assert tail.skipped_bytes == len(garbage)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (0.5, 0.5),
        ("0.5", 0.5),
        ({"default": 0.5}, {"default": 0.5}),
        ('{"default": 0.5, "loss": 1}', {"default": 0.5, "loss": 1}),
        ("not json", "not json"),
        ('"text"', "text"),
        ("NaN", "nan"),
        (float("nan"), "nan"),
        ('{"default": Infinity}', {"default": "inf"}),
        (None, None),
    ],
)
def test_values_of_nni_1_and_of_later_versions_are_read(tmp_path: Path, written: Any, read: Any) -> None:
    assert read_all(tmp_path, record(written))[0] == [read]


@pytest.mark.parametrize("value", [b"[" * 600 + b"]" * 600, b'"' + b"[" * 200_000 + b'"'])
def test_a_value_that_is_nested_too_deeply_is_no_record(tmp_path: Path, value: bytes) -> None:
    body = b'{"type": "PERIODICAL", "value": ' + value + b"}\n"
    read, tail = read_all(tmp_path, b"ME%06d" % len(body) + body + record(1))
    assert read == [1]
    assert tail.skipped_bytes > 0


def test_each_type_counts_its_own_records(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    path.write_bytes(record(1) + record(2) + record(3, "FINAL") + record(4))
    found = [(metric.type.value, metric.sequence) for metric in MetricsTail(tmp_path, path).read()]
    assert found == [("PERIODICAL", 0), ("PERIODICAL", 1), ("FINAL", 0), ("PERIODICAL", 2)]


@pytest.mark.parametrize(
    ("value", "number", "reason"),
    [
        (1, 1.0, ""),
        (0.5, 0.5, ""),
        ({"default": 2, "loss": "x"}, 2.0, ""),
        ({"loss": 1}, None, "without the key 'default'"),
        ({"default": None}, None, "null"),
        ("nan", None, "nan"),
        ({"default": "-inf"}, None, "-inf"),
        ("0.5", None, "text"),
        (True, None, "truth value"),
        ([1], None, "list"),
        (10**400, None, "too large"),
    ],
)
def test_a_metric_counts_as_a_number_or_says_why_not(value: Any, number: float | None, reason: str) -> None:
    found, why = read_number(value)
    assert found == number
    assert reason in why
    assert bool(why) == (number is None)


@pytest.mark.parametrize(
    ("metrics", "value", "remark"),
    [
        (final(0.5), 0.5, ""),
        (final({"default": 0.5}), 0.5, ""),
        (final(0.5, 0.9), 0.5, "2 final metrics were reported, the first counts"),
        (final("nan", 0.9), None, "no valid final metric: the metric is nan"),
        (final("text"), None, "no valid final metric"),
        (final({"loss": 1}), None, "without the key 'default'"),
        ([], None, "no final metric"),
        ([Metric(MetricType.PERIODICAL, 0, 0.5, 0.0)], None, "no final metric"),
    ],
)
def test_the_first_final_metric_is_the_result(metrics: list[Metric], value: float | None, remark: str) -> None:
    found, said = judge_final(metrics)
    assert found == value
    assert remark in said
    assert bool(remark) == bool(said)


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("trap", ["pipe", "endless link", "folder link", "folder"])
def test_a_trap_in_the_file_s_place_holds_nobody_up_and_shows_nothing(tmp_path: Path, trap: str) -> None:
    folder = tmp_path / "trial" / ".nni"
    folder.mkdir(parents=True)
    (tmp_path / "metrics").write_bytes(record(7))
    if trap == "pipe":
        os.mkfifo(folder / "metrics")
    elif trap == "endless link":
        (folder / "metrics").symlink_to("/dev/zero")
    elif trap == "folder link":
        folder.rmdir()
        folder.symlink_to(tmp_path)
    else:
        (folder / "metrics").mkdir()
    tail = MetricsTail(tmp_path, folder / "metrics")
    assert (tail.read(), tail.has_more) == ([], False)


def test_a_long_file_is_read_in_steps(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    number = (2 << 20) // len(record(0)) + 1
    path.write_bytes(record(0) * number + record(1, "FINAL"))
    tail = MetricsTail(tmp_path, path)
    steps = [tail.read()]
    while tail.has_more:
        steps.append(tail.read())
    assert len(steps) == 3
    assert sum(map(len, steps)) == number + 1
    assert steps[-1][-1].value == 1
    assert tail.read() == []


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("flood", ["nothing", "broken"])
def test_a_file_without_end_is_given_up(tmp_path: Path, flood: str) -> None:
    path = tmp_path / "metrics"
    # Each of these announces a megabyte, and is read in vain.
    path.write_bytes(record(1) + (b'ME900000{"x":' * 200_000 if flood == "broken" else b""))
    if flood == "nothing":
        os.truncate(path, 1 << 40)
    tail = MetricsTail(tmp_path, path)
    read = [metric.value for metric in tail.read()]
    steps = 1
    while tail.has_more:
        read += [metric.value for metric in tail.read()]
        steps += 1
    assert (read, tail.is_given_up) == ([1], True)
    assert steps <= 64
    assert tail.read() == []


def test_broken_records_that_announce_much_are_not_all_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def parse(_tail: MetricsTail, body: bytes) -> None:
        tried.append(len(body))

    monkeypatch.setattr(MetricsTail, "_parse", parse)
    read_all(tmp_path, b'ME500000{"x":' * 80_000)
    assert sum(tried) < 70 << 20
