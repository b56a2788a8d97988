"""An experiment's own files as one archive, for an Airflow that does not see the disk on which they lie.

The archive is a ZIP file: unlike a compressed tar, nothing in it has to be unpacked to know what is there. It holds
the experiment file, the search space and the code, as they lie to each other here.
"""

from __future__ import annotations

import copy
import json
import os
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Any

import yaml

from trialflow.config.formats import read_document
from trialflow.config.paths import expand
from trialflow.config.source import MAX_FILE_BYTES, read_source
from trialflow.errors import ConfigError
from trialflow.messages import Problem
from trialflow.staging.files import CodeFile, digest_file, digest_of
from trialflow.staging.scan import IGNORE_FILE, scan_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trialflow.config.formats import Document
    from trialflow.config.source import FieldPath
    from trialflow.settings import Settings

_EPOCH = (1980, 1, 1, 0, 0, 0)
# What is compared in a process that has others to serve, one experiment at a time.
_MOST_COMPARED_BYTES = 64 << 20
_MOST_COMPARED_FILES = 2000
_PATIENCE_SECONDS = 1.0
_comparing = Lock()
_SPACE = ("searchSpacePath",)


@dataclass(frozen=True)
class Bundle:
    """The files of an experiment, named from the experiment file's folder."""

    config: str
    files: tuple[CodeFile, ...]

    @classmethod
    def of(cls, config: Path, settings: Settings) -> Bundle:
        """Collect the files of an experiment.

        Raises:
            ConfigError: A file is missing, or lies elsewhere, or they are too many or too large.
        """
        source = read_source(config, "config")
        document = read_document(source) if isinstance(source.data, dict) else None
        named = dict(_named_places(document)) if document else {}
        folder = Path(os.path.normpath(config.parent))
        named_paths = {path: Path(os.path.normpath(folder / expand(name))) for path, name in named.items()}
        spaces = [named_path for path, named_path in named_paths.items() if path == _SPACE]
        codes = [named_path for path, named_path in named_paths.items() if path != _SPACE]
        base = Path(os.path.commonpath([folder, *(space.parent for space in spaces), *codes]))
        name = str((folder / config.name).relative_to(base))
        files = {str(space.relative_to(base)): _read_file(str(space.relative_to(base)), space) for space in spaces}
        for code in codes:
            files |= {file.name: file for file in _collect_code(code, folder, base, settings)}
        files[name] = _read_file(name, config)
        # What is absolute here would be something else there.
        if document and any(expand(given).is_absolute() for given in named.values()):
            relative = {path: os.path.relpath(named_path, folder) for path, named_path in named_paths.items()}
            files[name] = files[name].with_content(_rewrite(document, relative, as_json=config.suffix == ".json"))
        return cls(name, tuple(sorted(files.values(), key=lambda file: file.name)))

    @property
    def digest(self) -> str:
        """The same for the same files."""
        return digest_of(self.files)

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(file.size for file in self.files)

    def write_to(self, stream: IO[bytes]) -> None:
        """Write the archive; the same files make the same archive."""
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in self.files:
                entry = zipfile.ZipInfo(file.name, _EPOCH)
                entry.external_attr = (stat.S_IFREG | (0o755 if file.executable else 0o644)) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w", force_zip64=True) as target:
                    for chunk in file.chunks():
                        target.write(chunk)


def _named_places(document: Document) -> Iterator[tuple[FieldPath, str]]:
    """The fields, in v1 terms, that name files or folders of the experiment."""
    data = document.source.data
    for path in (_SPACE, *((section, "codeDir") for section in ("trial", "tuner", "assessor", "advisor"))):
        value: Any = data
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, str) and value and "\0" not in value:
            yield path, value


def _rewrite(document: Document, paths: Mapping[FieldPath, str], *, as_json: bool) -> bytes:
    """The experiment file with other paths in it."""
    data, original = copy.deepcopy(document.written.data), document.source.original
    for path, name in paths.items():
        *sections, key = original(path) if original else path
        target = data
        for section in sections:
            target = target.setdefault(section, {})
        target[key] = name
    text = json.dumps(data, indent=2) if as_json else yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return text.encode()


def _collect_code(code: Path, folder: Path, base: Path, settings: Settings) -> Iterable[CodeFile]:
    """The files of a code folder; links may lead as far as the experiment file's folder if the code lies in there."""
    root = Path(os.path.realpath(folder if code.is_relative_to(folder) else code))
    limits = (settings.max_code_bytes, settings.max_code_files, settings.private_folders)
    files, problems = scan_code(code, root, *limits)
    if problems:
        raise ConfigError(problems)
    folder = code.relative_to(base)
    for file in files:
        yield CodeFile(str(folder / file.name), file.path, file.size, file.digest, file.executable)
    if (code / IGNORE_FILE).is_file():
        yield _read_file(str(folder / IGNORE_FILE), code / IGNORE_FILE)


def _read_file(name: str, path: Path) -> CodeFile:
    try:
        info = path.stat()
        digest = digest_file(path, MAX_FILE_BYTES)
    except OSError as error:
        problem = Problem("", f"cannot be read: {error.strerror}", str(path), "Check its name, size and rights")
        raise ConfigError([problem]) from error
    return CodeFile(name, path, info.st_size, digest, bool(info.st_mode & stat.S_IXUSR))


def is_here(config: str, digest: str, settings: Settings) -> bool:
    """Whether an experiment with these very files lies here under this path; says nothing else about the path.

    One that is large counts as not being here: looking through it would keep the API server from others.
    """
    path = Path(config)
    small = {"max_code_bytes": _MOST_COMPARED_BYTES, "max_code_files": _MOST_COMPARED_FILES}
    bounded = settings.model_copy(update={name: min(most, getattr(settings, name)) for name, most in small.items()})
    if not path.is_absolute() or not _comparing.acquire(timeout=_PATIENCE_SECONDS):
        return False
    try:
        return path.is_file() and Bundle.of(path, bounded).digest == digest
    except (ConfigError, OSError, ValueError):
        return False
    finally:
        _comparing.release()


def is_same_file(config: str, digest: str) -> bool:
    """Whether this very experiment file lies here under this path."""
    path = Path(config)
    try:
        return path.is_absolute() and digest_file(path, MAX_FILE_BYTES) == digest
    except (OSError, ValueError):
        return False
