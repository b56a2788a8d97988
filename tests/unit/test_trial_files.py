"""Folders in which a trial has laid traps: nothing outside is shown, written or emptied, and nobody is held up."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from trialflow import trial_files
from trialflow.training import exits
from trialflow.training.kubeflow.attempt_folder import AttemptFolder
from trialflow.training.kubeflow.section import Role

PRINTED = b"NNISDK_MEb'import os'\n"
ROLES = [Role("worker", 1, "true", "image", 0, 1, 128)]


@dataclass
class Trapped:
    """An attempt's folder, and beside the experiment a file of the installation."""

    folder: AttemptFolder
    outside: Path

    @property
    def replica(self) -> Path:
        return self.folder.replica("worker-0")

    def prepare(self) -> None:
        self.folder.prepare({"parameter.cfg": "{}", "run-worker.sh": "true"}, ROLES)

    def lay(self, trap: Path, target: Path | None = None) -> None:
        """Put a link in the place of a file or a folder."""
        if trap.is_dir():
            trap.rename(trap.with_name("moved"))
        trap.unlink(missing_ok=True)
        trap.symlink_to(target or self.outside)


@pytest.fixture
def trapped(tmp_path: Path) -> Trapped:
    (tmp_path / "dags").mkdir()
    outside = tmp_path / "dags" / "evil.py"
    outside.write_text("7")
    outside.chmod(0o600)
    trapped = Trapped(AttemptFolder(tmp_path / "experiment" / "trials" / "abcde" / "1"), outside)
    trapped.prepare()
    return trapped


def adopt(trapped: Trapped) -> None:
    trapped.folder.adopt_printed_metrics("worker-0", PRINTED)


def cancel(trapped: Trapped) -> None:
    trapped.folder.cancel()
    assert trapped.folder.is_cancelled()


def prepare(trapped: Trapped) -> None:
    with suppress(FileNotFoundError):  # Some traps are passed by, some refused.
        trapped.prepare()


ATTEMPT, REPLICA = "", "output/worker-0/"


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (adopt, f"{REPLICA}.nni/metrics.adopted"),
        (adopt, f"{REPLICA}.nni/metrics"),
        (cancel, f"{ATTEMPT}cancelled"),
        (prepare, f"{ATTEMPT}.parameter.cfg.PID"),
        (prepare, f"{ATTEMPT}.run-worker.sh.PID"),
        (prepare, f"{ATTEMPT}parameter.cfg"),
        (prepare, f"{ATTEMPT}run-worker.sh"),
        (prepare, f"{REPLICA}stdout"),
        (prepare, f"{REPLICA}exit"),
    ],
)
def test_no_file_outside_is_written_emptied_or_opened_to_others(
    trapped: Trapped, act: Callable[[Trapped], None], name: str
) -> None:
    trapped.lay(trapped.folder.path / name.replace("PID", str(os.getpid())))
    act(trapped)
    assert (trapped.outside.read_text(), trapped.outside.stat().st_mode & 0o777) == ("7", 0o600)


@pytest.mark.parametrize("act", [adopt, cancel, prepare])
@pytest.mark.parametrize("name", ["output", "output/worker-0", f"{REPLICA}.nni"])
def test_no_folder_outside_is_written_to_or_opened_to_others(
    trapped: Trapped, act: Callable[[Trapped], None], name: str
) -> None:
    outside = trapped.outside.parent
    outside.chmod(0o700)
    trapped.lay(trapped.folder.path / name, outside)
    with suppress(FileNotFoundError):  # A folder that is not there cannot be worked in.
        act(trapped)
    assert [path.name for path in outside.iterdir()] == ["evil.py"]
    assert outside.stat().st_mode & 0o777 == 0o700


def test_a_file_in_a_link_s_place_is_made_and_read_again(trapped: Trapped) -> None:
    trapped.lay(trapped.replica / ".nni" / "metrics")
    adopt(trapped)
    assert trapped.folder.metrics_file("worker-0").read_bytes() == b"ME000010import os\n"
    assert [path.name for path in (trapped.replica / ".nni").iterdir()] == ["metrics"]


@pytest.mark.parametrize("name", ["stderr", "exit", "."])
def test_no_file_outside_is_shown(trapped: Trapped, name: str) -> None:
    for file in ("stderr", "exit"):
        (trapped.outside.parent / file).write_text("7")
    trapped.lay((trapped.replica / name).absolute(), trapped.outside.parent / name)
    assert trapped.folder.last_output("worker-0", 20) == ""
    assert trapped.folder.exits() == []


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("make", ["pipe", "socket", "folder", "device", "link to a device"])
def test_what_is_no_plain_file_counts_as_none_and_holds_nobody_up(
    trapped: Trapped, make: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (trapped.replica / name for name in ("exit", "stderr", "stdout", ".nni/metrics")):
        path.unlink()
        if make == "pipe":
            os.mkfifo(path)
        elif make == "socket":
            with socket.socket(socket.AF_UNIX) as server:
                monkeypatch.chdir(path.parent)
                server.bind(path.name)
        elif make == "folder":
            path.mkdir()
        elif make == "device" and os.geteuid() == 0:
            os.mknod(path, 0o20666, os.makedev(1, 5))
        else:
            path.symlink_to("/dev/zero")
    assert trapped.folder.exits() == []
    assert trapped.folder.last_output("worker-0", 20) == ""
    assert not trapped.folder.has_metrics("worker-0")


@pytest.mark.parametrize("content", ["", "0x7", "-1", "1e3", "99999999999", "7" * 5000, "\x00"])
def test_an_exit_that_no_shell_can_have_written_is_none(trapped: Trapped, content: str) -> None:
    (trapped.replica / "exit").write_text(content)
    assert trapped.folder.exits() == []


def test_a_flood_of_replicas_is_not_looked_through(trapped: Trapped, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(1100):
        (trapped.folder.path / "output" / f"fake-{index}").mkdir()
    asked = []
    read_part = trial_files.read_part

    def read(root: Path, path: Path, offset: int, max_bytes: int) -> trial_files.Part:
        asked.append(path)
        return read_part(root, path, offset, max_bytes)

    monkeypatch.setattr(exits, "read_part", read)
    trapped.folder.exits()
    assert len(asked) == 1000


def test_parts_of_a_file_are_read_from_both_ends(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    trial_files.make_folder(tmp_path, path.parent, 0o755)
    trial_files.write_whole(tmp_path, path, b"0123456789")
    read = [trial_files.read_part(tmp_path, path, offset, 3).content for offset in (0, 8, 10, 11, -2, -99)]
    assert read == [b"012", b"89", b"", b"", b"89", b"012"]
    assert trial_files.size_of(tmp_path, path) == 10


def test_the_way_up_is_no_way_down(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "file").write_text("7")
    assert trial_files.read_end(tmp_path / "a", tmp_path / "a" / ".." / "file", 9) == b""


def test_nothing_is_left_open(trapped: Trapped) -> None:
    before = list(Path("/proc/self/fd").iterdir())
    (trapped.replica / "stderr").unlink()
    os.mkfifo(trapped.replica / "stderr")
    trapped.lay(trapped.replica / ".nni", trapped.outside.parent)
    for act in (cancel, adopt, prepare, Trapped.prepare):
        with suppress(FileNotFoundError):
            act(trapped)
    trapped.folder.exits()
    trapped.folder.last_output("worker-0", 1)
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)
