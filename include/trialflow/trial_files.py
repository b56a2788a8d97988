"""Files in the folders of trials and of users, who may put anything there, at any moment.

A pod writes its folder while we look into it. So every name on the way from a folder of ours is opened by itself, no
link is followed, whatever is no plain file counts as no file, and nothing waits for the other end of a pipe: a trial
can neither show nor overwrite a file that is not its own, nor hold up whoever looks. Each function takes the folder of
ours and a path below it.

A user's own files may be links, as far as an allowed root. `read_chunks` resolves them first, and opens what they lead
to in the same way.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where there is O_PATH, a folder on the way need not be readable, and a network file system is not asked to open it.
_PASSING = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
# A link, a folder or a pipe in the place of a file, and a link or a file in the place of a folder.
_IN_THE_WAY = (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO)
_CHUNK_BYTES = 1 << 20
ANYWHERE = Path("/")


class TooLargeError(OSError):
    """A file is larger than whoever reads it takes."""


class Part(NamedTuple):
    """A part of a file, and the file's size in bytes and its time of change in seconds since the epoch."""

    content: bytes
    size: int
    modified_at: float


class Stretch(NamedTuple):
    """What a file holds in one place, or how many bytes long the gap is that it has there."""

    content: bytes
    left_out: int


def open_plain(root: Path, path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a plain file; gives its descriptor.

    Raises:
        FileNotFoundError: There is no plain file.
    """
    folder = _pass_to(root, path.parent)
    try:
        descriptor = os.open(path.name, flags | _PLAIN, 0o644, dir_fd=folder)
    except OSError as error:
        raise _as_missing(error, path) from error
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _missing(path)
    return descriptor


def read_part(root: Path, path: Path, offset: int, max_bytes: int) -> Part:
    """Read from an offset on, which counts from the end when it is negative.

    Raises:
        FileNotFoundError: There is no plain file.
    """
    descriptor = open_plain(root, path)
    try:
        facts = os.fstat(descriptor)
        start = offset if offset >= 0 else max(0, facts.st_size + offset)
        length = min(max_bytes, facts.st_size - start)
        content = os.pread(descriptor, length, start) if length > 0 else b""
    finally:
        os.close(descriptor)
    return Part(content, facts.st_size, facts.st_mtime)


def read_stretch(root: Path, path: Path, offset: int, max_bytes: int) -> Stretch:
    """Read from an offset on, as `read_part` does, but not beyond the next gap, which takes no room on the disk.

    Raises:
        FileNotFoundError: There is no plain file.
    """
    descriptor = open_plain(root, path)
    try:
        size = os.fstat(descriptor).st_size
        start = offset if offset >= 0 else max(0, size + offset)
        if start >= size:
            return Stretch(b"", 0)
        if gap := _gap_at(descriptor, start, size):
            return Stretch(b"", gap)
        length = min(max_bytes, os.lseek(descriptor, start, os.SEEK_HOLE) - start)
        return Stretch(os.pread(descriptor, length, start), 0)
    finally:
        os.close(descriptor)


def _gap_at(descriptor: int, start: int, size: int) -> int:
    try:
        return os.lseek(descriptor, start, os.SEEK_DATA) - start
    except OSError as error:
        return size - start if error.errno == errno.ENXIO else 0


def read_chunks(path: Path, max_bytes: int, root: Path = ANYWHERE) -> Iterator[bytes]:
    """A user's file, chunk by chunk, as large as it was when it was opened.

    Args:
        path: Links are followed.
        max_bytes: How large it may be.
        root: In which it must lie, links resolved; has none in itself.

    Raises:
        FileNotFoundError: There is no such file.
        TooLargeError: It is larger.
        OSError: It is no plain file, or lies elsewhere, or cannot be read.
    """
    try:
        descriptor = open_plain(root, Path(os.path.realpath(path)))
    except FileNotFoundError as error:
        is_folder = stat.S_ISDIR(path.stat().st_mode)  # Raises by itself what is wrong with the way there.
        number, what = (errno.EISDIR, os.strerror(errno.EISDIR)) if is_folder else (errno.EINVAL, "not a plain file")
        raise OSError(number, what, str(path)) from error
    try:
        left = os.fstat(descriptor).st_size
        if left > max_bytes:
            raise TooLargeError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        while left > 0 and (chunk := os.read(descriptor, min(left, _CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk
    finally:
        os.close(descriptor)


def read_user_file(path: Path, max_bytes: int, root: Path = ANYWHERE) -> bytes:
    """A user's whole file; see `read_chunks`."""
    return b"".join(read_chunks(path, max_bytes, root))


def read_end(root: Path, path: Path, max_bytes: int) -> bytes:
    """The end of a file; empty when there is none that can be read."""
    try:
        return read_part(root, path, -max_bytes, max_bytes).content
    except (FileNotFoundError, PermissionError):
        return b""


def size_of(root: Path, path: Path) -> int:
    """The size of a file in bytes; 0 when there is none."""
    try:
        return read_part(root, path, 0, 0).size
    except FileNotFoundError:
        return 0


def list_names(root: Path, folder: Path, limit: int) -> list[str]:
    """The first names in a folder, sorted; none when there is no folder."""
    try:
        with _passing(root, folder) as passing, _opened(passing) as opened, os.scandir(opened) as entries:
            return sorted(entry.name for entry in islice(entries, limit))
    except FileNotFoundError:
        return []


def make_folder(root: Path, folder: Path, mode: int) -> None:
    """Make a folder and those above it, with this mode for the last; may be repeated."""
    root.mkdir(parents=True, exist_ok=True)
    with _passing(root, folder, make=True) as passing, _opened(passing) as opened:
        os.fchmod(opened, mode)


def make_file(root: Path, path: Path, mode: int) -> None:
    """Make a file, empty, unless it is there; one that somebody else has made keeps its mode."""
    descriptor = open_plain(root, path, os.O_WRONLY | os.O_CREAT)
    try:
        with suppress(PermissionError):
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def write_whole(root: Path, path: Path, content: bytes) -> None:
    """Put a file in the place of whatever is there; who reads it finds all of it or nothing."""
    with _passing(root, path.parent) as folder:
        partial = f".{path.name}.{secrets.token_hex(8)}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, 0o644, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o644)
                file.write(content)
            os.replace(partial, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            with suppress(OSError):
                os.unlink(partial, dir_fd=folder)
            raise


@contextmanager
def _passing(root: Path, folder: Path, *, make: bool = False) -> Iterator[int]:
    """A descriptor for what lies in a folder, reached without following a link below the root."""
    descriptor = _pass_to(root, folder, make=make)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _pass_to(root: Path, folder: Path, *, make: bool = False) -> int:
    descriptor = os.open(root, _PASSING)
    try:
        for name in _names_below(root, folder):
            descriptor = _enter(descriptor, name, folder, make=make)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _names_below(root: Path, folder: Path) -> list[str]:
    """The names on the way; paths as text, for metrics are looked for many times a second."""
    above, whole = f"{root}/".replace("//", "/"), f"{folder}/".replace("//", "/")
    names = whole[len(above) :].split("/")[:-1]
    if not whole.startswith(above) or ".." in names:
        raise _missing(folder)
    return names


def _enter(outer: int, name: str, folder: Path, *, make: bool) -> int:
    if make:
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=outer)
    try:
        inner = os.open(name, _PASSING | os.O_NOFOLLOW, dir_fd=outer)
    except OSError as error:
        raise _as_missing(error, folder) from error
    os.close(outer)
    return inner


@contextmanager
def _opened(passing: int) -> Iterator[int]:
    """The folder itself, which can be listed and changed."""
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=passing)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _as_missing(error: OSError, path: Path) -> OSError:
    return _missing(path) if error.errno in _IN_THE_WAY else error


def _missing(path: Path) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "there is no plain file or folder in its place", str(path))
