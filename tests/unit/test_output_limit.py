"""What trials print without end: its beginning and its end are kept, and the reader is told what lies between."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trialflow.experiment.running import ExperimentSteps, TrialWatch
from trialflow.experiment.showing.logs import LogName, read_trial_log
from trialflow.records import AlgorithmSpec, Trial, TrialStatus
from trialflow.settings import Settings
from trialflow.training.local import output_limit
from trialflow.training.local.output_limit import limit_output
from trialflow.trial_files import read_stretch

from .lab import RUN, follow, make_steps, suggest

LIMIT = 1 << 20
LINES = b"".join(b"%015d\n" % number for number in range(1 << 18))  # 4 MiB
# Prints 24 MiB to each of its outputs, and looks at its own file now and then.
FLOOD = """import nni, os, sys, time
nni.get_next_parameter()
folder = os.environ["NNI_OUTPUT_DIR"]
most = 0
for part in range(24):
    for stream in (sys.stdout, sys.stderr):
        for number in range(part << 16, part + 1 << 16):
            stream.write("%015d\\n" % number)
        stream.flush()
    time.sleep(0.05)
    most = max(most, os.stat(folder + "/stdout").st_blocks * 512)
nni.report_final_result(most)
"""


def taken(path: Path) -> int:
    return path.stat().st_blocks * 512


def read_all(path: Path, at_a_time: int = 1 << 20) -> list[tuple[bytes, int]]:
    """Every part of a file with the length of the gap before the next one."""
    parts: list[tuple[bytes, int]] = []
    offset = 0
    while (part := read_stretch(path.parent, path, offset, at_a_time)) != (b"", 0):
        parts.append(part)
        offset += len(part.content) + part.left_out
    assert offset == path.stat().st_size
    return parts


def test_the_ends_of_an_output_are_kept_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "stdout"
    path.write_bytes(LINES)
    limit_output(tmp_path, LIMIT)

    assert taken(path) <= LIMIT + 8192
    parts = read_all(path)
    (gap,) = [left_out for _, left_out in parts if left_out]
    head = b"".join(content for content, _ in parts[: [left_out > 0 for _, left_out in parts].index(True)])
    tail = b"".join(content for content, _ in parts)[len(head) :]
    assert (LINES.startswith(head), LINES.endswith(tail), len(head) + gap + len(tail)) == (True, True, len(LINES))
    assert min(len(head), len(tail)) >= LIMIT // 2


def test_whoever_writes_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "stderr"
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(LINES), 1 << 18):
            file.write(LINES[start : start + (1 << 18)])
            limit_output(tmp_path, LIMIT)
            assert taken(path) <= LIMIT * 5 // 4 + 8192
    assert path.read_bytes().endswith(LINES[-LIMIT // 2 :])
    assert path.stat().st_size == len(LINES)


def test_what_is_within_the_limit_or_no_output_stays_as_it_is(tmp_path: Path) -> None:
    other = tmp_path / "another"
    for path in (other, tmp_path / "checkpoint"):
        path.write_bytes(LINES)
    (tmp_path / "stdout").symlink_to(other)
    (tmp_path / "stderr").hardlink_to(other)
    limit_output(tmp_path, LIMIT)
    (tmp_path / "stdout").unlink()
    (tmp_path / "stdout").write_bytes(LINES[: LIMIT * 5 // 4 - 4096])
    (tmp_path / "stderr").unlink()
    os.mkfifo(tmp_path / "stderr")
    limit_output(tmp_path, LIMIT)
    limit_output(tmp_path / "none", LIMIT)
    assert [path.read_bytes() == LINES for path in (other, tmp_path / "checkpoint")] == [True, True]
    assert (tmp_path / "stdout").read_bytes() == LINES[: LIMIT * 5 // 4 - 4096]


def test_a_file_system_that_cannot_do_it_keeps_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_limit.ctypes, "CDLL", lambda _: object())
    (tmp_path / "stdout").write_bytes(LINES)
    limit_output(tmp_path, LIMIT)
    assert read_all(tmp_path / "stdout", len(LINES)) == [(LINES, 0)]


def flood(home: Path) -> tuple[ExperimentSteps, Trial]:
    settings = Settings(home=home, trial_sdk="own", max_trial_output_bytes=LIMIT)
    steps = make_steps(home, FLOOD, settings=settings, tuner=AlgorithmSpec("Random"), max_trial_number=1)
    steps.plan_batch(1, RUN)
    return steps, steps.context.submit(suggest(steps, 0))


def test_a_trial_that_prints_without_end_is_seen_to_its_end_and_shown(tmp_path: Path) -> None:
    steps, trial = flood(tmp_path)
    ended = steps.trials.report(follow(steps, trial))

    assert (ended.status, ended.reason) == (TrialStatus.SUCCEEDED, "")
    assert (ended.value or 0) < 12 << 20  # It has printed 24 MiB, one every 0.05 s.
    for name in LogName:
        shown, offset = b"", 0
        while (part := read_trial_log(steps.context.experiment, ended, name, offset, 1 << 20)).length:
            shown += part.content
            offset += part.length
        (gap,) = re.findall(rb"\n\[(\d+) bytes were left out here\]\n", shown)
        said = b"\n[%s bytes were left out here]\n" % gap
        head, _, tail = shown.partition(said)
        assert len(head) + int(gap) + len(tail) == offset == 24 << 20
        assert (head[:16], tail[-16:]) == (b"%015d\n" % 0, b"%015d\n" % ((24 << 16) - 1))
        assert len(shown) < LIMIT * 3 // 2


def test_whoever_looks_after_a_trial_may_be_killed(tmp_path: Path) -> None:
    """The trial writes its own file: the death of a reader is nothing to it, and the next one goes on."""
    steps, trial = flood(tmp_path)
    job = (trial.job or {})["folder"]
    looker = (
        "import sys\nfrom pathlib import Path\nfrom trialflow.training.local.output_limit import limit_output\n"
        f"while True: limit_output(Path({job!r}), {LIMIT})"
    )
    first = subprocess.Popen([sys.executable, "-c", looker])
    time.sleep(0.6)
    first.send_signal(signal.SIGKILL)
    first.wait()
    while (ended := TrialWatch(steps.context, trial).poll()) is None:
        time.sleep(0.02)
    assert ended.status is TrialStatus.SUCCEEDED
    assert taken(Path(job) / "stdout") < LIMIT * 3 // 2
    assert (Path(job) / "stdout").read_bytes()[-16:] == b"%015d\n" % ((24 << 16) - 1)
