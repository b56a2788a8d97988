"""Experiments that were sent here: a folder for each, how much each person may send, and what becomes of it.

    uploads/NAME         the files of one archive that one person sent; the same archive gives the same folder
    uploads/.held/NAME   a note of who sent it, how much it takes, and the digest of its files
    uploads/.lock        held by whoever lets a folder appear or vanish
    uploads/.*           what grows or goes away; who died over it leaves it to `prune_uploads`

No two people share a folder: trials run in there, and would write into each other's code.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import struct
import time
import zipfile
import zlib
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, cast

from trialflow.errors import ConfigError, QuotaError
from trialflow.messages import Problem, show
from trialflow.staging.files import CodeFile, digest_file, digest_of
from trialflow.staging.scan import MAX_DEPTH
from trialflow.trial_files import read_user_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trialflow.settings import Settings

_CHUNK_BYTES = 1 << 20
_UNUSED_SECONDS = 86400.0
# What each file and folder takes of a disk at least.
_BLOCK_BYTES = 4096
# Unpacked, an archive may be so many times as large as it came; code is mostly five times as large.
_MOST_TIMES_LARGER = 100
_ALWAYS_ALLOWED_BYTES = 16 << 20
# Of the list of its entries, which is read whole: an entry takes 46 bytes and its name.
_MOST_LIST_BYTES_PER_FILE = 512
_MOST_NOTE_BYTES = 1 << 16
_NOTES, _LOCK = ".held", ".lock"


@dataclass(frozen=True)
class Upload:
    """What one person has sent.

    Attributes:
        name: Of its folder.
        who: The person.
        size: In bytes, as a disk counts them.
        digest: Of its files; see `trialflow.staging.files.digest_of`.
    """

    name: str
    who: str
    size: int
    digest: str


# ── what is here ─────────────────────────────────────────────────────────────────────────────────────────────────


def list_uploads(settings: Settings) -> list[Upload]:
    """Every upload whose folder is here."""
    found = []
    for note in sorted((settings.uploads / _NOTES).glob("*")):
        with suppress(OSError, ValueError, TypeError):
            if (settings.uploads / note.name).is_dir():
                found.append(Upload(**json.loads(read_user_file(note, _MOST_NOTE_BYTES))))
    return found


def find_upload(who: str, digest: str, settings: Settings) -> Path | None:
    """The folder in which these very files of a person lie already; it is kept for another day."""
    with _locked(settings):
        held = next((item for item in list_uploads(settings) if (item.who, item.digest) == (who, digest)), None)
        return None if held is None else _touch(settings.uploads / held.name)


def keep_upload(config: str, settings: Settings) -> None:
    """Keep the upload in which an experiment file lies for another day, until its experiment is in the store."""
    name = _upload_of(os.path.normpath(config), settings)
    if name and not name.startswith("."):
        with suppress(OSError):
            os.utime(settings.uploads / name)


def require_room(settings: Settings, who: str, size: int = 0) -> None:
    """Refuse what a person wants to send before any of it comes.

    Args:
        settings: Of this installation.
        who: The person.
        size: Of the archive in bytes, as far as it is known.

    Raises:
        QuotaError: There is no room for it.
    """
    _require_disk(settings, size)
    _room_of(settings, who)


def _room_of(settings: Settings, who: str) -> int:
    """How many bytes a person may still send."""
    held = list_uploads(settings)
    own = [item for item in held if item.who == who]
    left = settings.max_upload_bytes_per_user - sum(item.size for item in own)
    left_of_all = settings.max_upload_bytes - sum(item.size for item in held)
    if left <= 0:
        raise QuotaError(
            f"you hold {_describe({item.name: item.size for item in own})} of uploads, and may hold "
            f"{_megabytes(settings.max_upload_bytes_per_user)}; delete experiments that came from there: "
            "nnictl experiment delete; what no experiment uses goes after a day"
        )
    if left_of_all <= 0:
        users: Counter[str] = Counter()
        for item in held:
            users[item.who] += item.size
        raise QuotaError(
            f"all users hold {_describe(users)} of uploads, and may hold {_megabytes(settings.max_upload_bytes)} "
            "(TRIALFLOW_MAX_UPLOAD_BYTES); delete experiments that came from there: nnictl experiment delete"
        )
    return min(left, left_of_all)


def _require_disk(settings: Settings, size: int) -> None:
    settings.uploads.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(settings.uploads).free - size < settings.min_free_bytes:
        raise QuotaError(
            f"the disk of {settings.uploads} must keep {_megabytes(settings.min_free_bytes)} free "
            "(TRIALFLOW_MIN_FREE_BYTES); ask whoever operates this Airflow for room"
        )


def _describe(sizes: dict[str, int]) -> str:
    """A sum and its largest parts."""
    largest = sorted(sizes.items(), key=lambda item: item[1], reverse=True)
    parts = ", ".join(f"{name} {_megabytes(size)}" for name, size in largest[:5])
    return f"{_megabytes(sum(sizes.values()))} ({parts}{', …' if largest[5:] else ''})"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


# ── what comes ───────────────────────────────────────────────────────────────────────────────────────────────────


def unpack(archive: Path, who: str, settings: Settings) -> Path:
    """Make the folder of an archive that somebody sent; the same archive of the same person gives the same folder.

    The folder appears whole or not at all, and holds plain files only.

    Raises:
        ConfigError: It is no such archive, or holds too much, or names something outside of the folder.
        QuotaError: There is no room for it.
    """
    digest = digest_file(archive, archive.stat().st_size)
    folder = settings.uploads / hashlib.sha256(f"{who}\0{digest}".encode()).hexdigest()[:32]
    with _locked(settings):
        if folder.is_dir():
            return _touch(folder)
        room = _room_of(settings, who)
    growing = settings.uploads / f".{secrets.token_hex(8)}"
    try:
        growing.mkdir()
        unpacked = _Unpacking(growing, settings, room, archive.stat().st_size)
        unpacked.run(archive)
        with _locked(settings):
            if unpacked.size > _room_of(settings, who):  # Somebody has taken it meanwhile.
                raise _no_room()
            if not folder.is_dir():
                _write_note(Upload(folder.name, who, unpacked.size, digest_of(unpacked.files)), settings)
                growing.rename(folder)
            return _touch(folder)
    except _BROKEN as error:
        raise _refusal("must be a ZIP archive", str(error)) from error
    except OSError as error:
        raise _refusal("cannot be unpacked", error.strerror or str(error)) from error
    finally:
        shutil.rmtree(growing, ignore_errors=True)


# What reading an archive raises that is none; what it says of itself is somebody's word.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError, LookupError,
    TypeError, OverflowError, MemoryError,
)  # fmt: skip


class _Unpacking:
    """Unpacks one archive, and counts what it takes."""

    def __init__(self, folder: Path, settings: Settings, room: int, archive_bytes: int) -> None:
        self._folder = folder
        self._settings = settings
        self._room = room
        self._times_larger = max(_ALWAYS_ALLOWED_BYTES, _MOST_TIMES_LARGER * archive_bytes)
        self._content_bytes = 0
        self._folders: set[PurePosixPath] = set()
        self.files: list[CodeFile] = []

    @property
    def size(self) -> int:
        """In bytes, as a disk counts them."""
        return self._content_bytes + _BLOCK_BYTES * (len(self.files) + len(self._folders) + 1)

    def run(self, path: Path) -> None:
        """Unpack all of it."""
        with path.open("rb") as file:
            guarded = cast("IO[bytes]", _Guarded(file, self._settings.max_code_files))
            archive = zipfile.ZipFile(guarded)
            entries = archive.infolist()
            self._require_few(len(entries))
            for entry in entries:
                self._unpack(archive, entry)

    def _unpack(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
        name = _safe_name(entry)
        self._folders.update(list(name.parents)[:-1])
        self._require_few(max(len(self.files), len(self._folders)))
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with archive.open(entry) as content, target.open("xb") as file:
            while chunk := content.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                self._take(len(chunk))
                file.write(chunk)
        executable = bool(entry.external_attr >> 16 & stat.S_IXUSR)
        target.chmod(0o755 if executable else 0o644)
        self.files.append(CodeFile(str(name), target, size, digest.hexdigest(), executable))
        self._take(0)

    def _require_few(self, count: int) -> None:
        most = self._settings.max_code_files
        if count > most:
            raise _refusal(f"must not hold more than {most} files or folders", str(count))

    def _take(self, size: int) -> None:
        """Count what really is there, whatever the archive says of its size."""
        self._content_bytes += size
        if self._content_bytes > self._settings.max_code_bytes:
            raise _refusal("holds more than TRIALFLOW_MAX_CODE_BYTES allows", None)
        if self._content_bytes > self._times_larger:
            raise _refusal(f"must not be more than {_MOST_TIMES_LARGER} times as large once it is unpacked", None)
        if self.size > self._room:
            raise _no_room()
        _require_disk(self._settings, size)


class _Guarded:
    """An archive's file of which no part is read at once that no archive of ours needs: its list is read whole."""

    def __init__(self, file: IO[bytes], max_files: int) -> None:
        self._file = file
        self._most = _CHUNK_BYTES + _MOST_LIST_BYTES_PER_FILE * max_files
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, size: int = -1) -> bytes:
        """Read so much, or all that is left."""
        if size > self._most:
            raise zipfile.BadZipFile("the list of its files is too long")
        return self._file.read(self._most if size < 0 else size)


def _safe_name(entry: zipfile.ZipInfo) -> PurePosixPath:
    name = PurePosixPath(entry.filename)
    mode = entry.external_attr >> 16
    plain = bool(entry.filename) and not entry.is_dir() and stat.S_IFMT(mode) in (0, stat.S_IFREG)
    inside = not name.is_absolute() and 0 < len(name.parts) <= MAX_DEPTH and ".." not in name.parts
    if not plain or not inside or "\\" in entry.filename or not entry.filename.isprintable():
        raise _refusal("must hold plain files inside of its own folder", show(entry.filename))
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # Others ask for memory as they like.
        raise _refusal("must be packed in the way that all ZIP programs know, deflate", show(entry.filename))
    return name


def _refusal(rule: str, value: str | None) -> ConfigError:
    return ConfigError([Problem("upload", rule, value, "Upload with: nnictl create --config FILE")])


def _no_room() -> QuotaError:
    return QuotaError(
        "the files need more room than you, or all users, have left for uploads; delete experiments that came from "
        "there: nnictl experiment delete"
    )


def _write_note(upload: Upload, settings: Settings) -> None:
    notes = settings.uploads / _NOTES
    notes.mkdir(exist_ok=True)
    partial = notes / f".{upload.name}"
    partial.write_text(json.dumps(asdict(upload)), encoding="utf-8")
    partial.replace(notes / upload.name)


def _touch(folder: Path) -> Path:
    os.utime(folder)
    return folder


@contextmanager
def _locked(settings: Settings) -> Iterator[None]:
    settings.uploads.mkdir(parents=True, exist_ok=True)
    with (settings.uploads / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ── what goes ────────────────────────────────────────────────────────────────────────────────────────────────────


def prune_uploads(settings: Settings, used: Iterable[str]) -> None:
    """Delete uploads that no experiment came from, a day after they were last sent.

    Args:
        settings: Of this installation.
        used: The code folders of all experiments.
    """
    kept = {_upload_of(folder, settings) for folder in used}
    going = []
    with _locked(settings):
        for entry in list(settings.uploads.glob("*")):
            if entry.name in kept or entry.name in (_NOTES, _LOCK):
                continue
            with suppress(OSError):
                if time.time() - entry.stat().st_mtime >= _UNUSED_SECONDS:
                    # Renamed first: nobody finds it half deleted, whoever dies meanwhile.
                    going.append(entry.rename(entry.with_name(f".{secrets.token_hex(8)}")))
        for note in (settings.uploads / _NOTES).glob("*"):
            if not (settings.uploads / note.name).is_dir():
                note.unlink(missing_ok=True)
    for entry in going:
        shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)


def _upload_of(folder: str, settings: Settings) -> str | None:
    path = Path(folder)
    parts = path.relative_to(settings.uploads).parts if path.is_relative_to(settings.uploads) else ()
    return parts[0] if parts else None
