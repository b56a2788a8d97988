"""Listing a user's code folder: what belongs to it, and what must not be followed."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialflow.messages import Problem, printable
from trialflow.staging.files import CodeFile, digest_file
from trialflow.trial_files import TooLargeError, read_user_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pathspec

IGNORE_FILE = ".nniignore"
MAX_DEPTH = 100
# Never part of what a trial runs.
_ALWAYS_IGNORED = [".git/", "__pycache__/", ".nniignore"]
_MOST_IGNORE_BYTES = 1 << 14
_MOST_PATTERNS = 1000
_SEEN_PER_FILE = 50
_TOO_MANY = "holds too much: the patterns are too large all together; write fewer or shorter ones"


@dataclass
class _Scan:
    root: Path
    ignored: pathspec.PathSpec[Any]
    max_bytes: int
    max_files: int
    private: tuple[Path, ...] = ()
    paths: list[tuple[str, Path, os.stat_result]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    total_bytes: int = 0
    folders: int = 0
    seen: int = 0

    @property
    def too_large(self) -> bool:
        is_long = max(len(self.paths), self.folders) > self.max_files or self.seen > self.max_seen
        return is_long or self.total_bytes > self.max_bytes

    @property
    def max_seen(self) -> int:
        """How many names are looked at, those of ignored files as well."""
        return _SEEN_PER_FILE * self.max_files


def scan_code(
    folder: Path, root: Path, max_bytes: int, max_files: int, private: Sequence[Path] = ()
) -> tuple[list[CodeFile], list[Problem]]:
    """List the files of a code folder, without those that its ``.nniignore`` names.

    A link is followed when it leads to something inside ``root`` (its content is staged); one that leads out of it,
    nowhere, or round in a circle is a problem, as are sockets, devices and files that cannot be read.

    Args:
        folder: The code folder.
        root: The allowed root in which everything must lie, links resolved.
        max_bytes: Largest sum of the sizes.
        max_files: Most files.
        private: Places that are left out, and to which no link may lead, unless ``root`` lies in there itself.
    """
    paths, problems = list_code(folder, root, max_bytes, max_files, private)
    return ([] if problems else [_hash(name, path, info) for name, path, info in paths]), problems


def list_code(
    folder: Path, root: Path, max_bytes: int, max_files: int, private: Sequence[Path] = ()
) -> tuple[list[tuple[str, Path, os.stat_result]], list[Problem]]:
    """The walk of `scan_code` without reading any file's content: enough to check a folder."""
    ignored, problems = _read_ignore_file(folder, root)
    folders = (Path(os.path.realpath(folder)) for folder in private)
    closed = tuple(folder for folder in folders if not root.is_relative_to(folder))
    scan = _Scan(root, ignored, max_bytes, max_files, closed, problems=problems)
    _walk(scan, folder, "", (os.path.realpath(folder),))
    if scan.too_large:
        remedy = f"Name data in {IGNORE_FILE}, or raise TRIALFLOW_MAX_CODE_BYTES or TRIALFLOW_MAX_CODE_FILES"
        rule = f"must not hold more than {max_files} files or folders, or {max_bytes} bytes"
        if scan.seen > scan.max_seen:
            rule = f"must not hold more than {scan.max_seen} files, even if {IGNORE_FILE} names them one by one"
            remedy = f"Name the folder in which they lie in {IGNORE_FILE}: data/ instead of data/*"
        scan.problems.append(Problem("trial.codeDir", rule, str(folder), remedy))
    return scan.paths, scan.problems


def _read_ignore_file(folder: Path, root: Path) -> tuple[pathspec.PathSpec[Any], list[Problem]]:
    lines, rule = _read_lines(folder / IGNORE_FILE, root)
    try:
        found = _matcher(lines)
    except ValueError:
        # The pattern itself is not repeated: the file may be a link to one that is nobody's business.
        number = next((number for number, line in enumerate(lines, 1) if not _is_pattern(line)), None)
        found, rule = _matcher([]), f"has a malformed pattern in line {number}" if number else _TOO_MANY
    return found, [Problem(IGNORE_FILE, rule, None, "Correct or remove it", str(folder))] if rule else []


def _is_pattern(line: str) -> bool:
    try:
        return _matcher([line]) is not None
    except ValueError:
        return False


def _matcher(lines: list[str]) -> pathspec.PathSpec[Any]:
    """Matches names with patterns in a time that grows with the length of the name alone, whatever the patterns.

    Raises:
        ValueError: A pattern is malformed, or all together are too large.
    """
    import pathspec
    import re2

    try:
        return pathspec.PathSpec.from_lines("gitignore", lines + _ALWAYS_IGNORED, backend="re2")
    except (re.error, re2.error) as error:
        raise ValueError("a pattern is malformed, or all are too large") from error


def _read_lines(path: Path, root: Path) -> tuple[list[str], str]:
    """The patterns of an ignore file, none without one, and the rule that the file breaks."""
    too_large = f"must not have more than {_MOST_PATTERNS} lines or {_MOST_IGNORE_BYTES} bytes"
    if not os.path.lexists(path):
        return [], ""
    if not Path(os.path.realpath(path)).is_relative_to(root):
        return [], f"is a link that leads out of the allowed folder {root}"
    try:
        lines = read_user_file(path, _MOST_IGNORE_BYTES, root).decode("utf-8").splitlines()
    except TooLargeError:
        return [], too_large
    except UnicodeDecodeError:
        return [], "cannot be read: it must be UTF-8 text"
    except OSError as error:
        return [], f"cannot be read: {error.strerror}"
    return ([], too_large) if len(lines) > _MOST_PATTERNS else (lines, "")


def _walk(scan: _Scan, folder: Path, prefix: str, parents: tuple[str, ...]) -> None:
    scan.folders += 1
    try:
        with os.scandir(folder) as found:
            entries = sorted(islice(found, scan.max_seen - scan.seen + 1), key=lambda entry: entry.name)
    except OSError as error:
        scan.problems.append(_problem(prefix or ".", f"cannot be read: {error.strerror}", "Check its rights"))
        return
    scan.seen += len(entries)
    for entry in entries:
        if scan.too_large:
            return
        _visit(scan, Path(entry.path), prefix + entry.name, parents)


def _visit(scan: _Scan, path: Path, name: str, parents: tuple[str, ...]) -> None:
    is_folder = _is_folder(path)
    shown = name.encode(errors="surrogateescape").decode(errors="replace")  # Patterns are matched in UTF-8.
    if scan.ignored.match_file(f"{shown}/" if is_folder else shown):
        return
    real = os.path.realpath(path)
    try:
        info = path.stat()
    except OSError as error:
        rule = "is a link that leads nowhere or round in a circle" if path.is_symlink() else f"{error.strerror}"
        scan.problems.append(_problem(name, rule, f"Remove it, or name it in {IGNORE_FILE}"))
        return
    if any(Path(real).is_relative_to(folder) for folder in scan.private):
        scan.problems += _refuse_link_to_private(path, name)
    elif not Path(real).is_relative_to(scan.root):
        rule = f"is a link that leads out of the allowed folder {scan.root}"
        remedy = "Copy what it leads to, or add the folder to TRIALFLOW_ALLOWED_ROOTS"
        scan.problems.append(_problem(name, rule, remedy))
    elif is_folder and real in parents:
        scan.problems.append(_problem(name, "is a link loop: it leads to a folder that contains it", "Remove it"))
    elif is_folder and len(parents) > MAX_DEPTH:
        scan.problems.append(_problem(name, f"is nested more than {MAX_DEPTH} folders deep", "Flatten it"))
    elif is_folder:
        _walk(scan, path, f"{name}/", (*parents, real))
    elif not stat.S_ISREG(info.st_mode):
        scan.problems.append(_problem(name, "is neither a file nor a folder", f"Name it in {IGNORE_FILE}"))
    elif not os.access(path, os.R_OK):
        scan.problems.append(_problem(name, "cannot be read", "Check its rights"))
    else:
        scan.total_bytes += info.st_size
        scan.paths.append((name, Path(real), info))


def _refuse_link_to_private(path: Path, name: str) -> list[Problem]:
    """A link is refused; what lies there by itself is left out."""
    rule = "is a link that leads to what Trialflow and Airflow write"
    return [_problem(name, rule, "Copy what it leads to, or remove it")] if path.is_symlink() else []


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # What is wrong with it, its stat tells.


def _problem(name: str, rule: str, remedy: str) -> Problem:
    return Problem("trial.codeDir", rule, printable(name), remedy)


def _hash(name: str, path: Path, info: os.stat_result) -> CodeFile:
    return CodeFile(name, path, info.st_size, digest_file(path, info.st_size), bool(info.st_mode & stat.S_IXUSR))
