"""Finding where a storage is mounted on this machine: first as the operator says, then in the mount table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNT_TABLE = Path("/proc/self/mountinfo")
_SETTING = "TRIALFLOW_STORAGE_MOUNTS"
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mounted:
    """A storage, or a folder above it, and where it is seen here.

    Attributes:
        key: ``server:/path`` or ``pvc:namespace/claim``.
        server_address: The address behind the server's name, where the mount table tells it.
    """

    key: str
    folder: str
    server_address: str = ""


@dataclass(frozen=True)
class Search:
    """The answer: the folder, or what was looked at.

    Attributes:
        folder: ``None`` when the storage is not mounted here.
        looked_at: One phrase per place.
    """

    folder: Path | None
    looked_at: tuple[str, ...] = ()


def find_mount(key: str, setting: str, mount_table: str) -> Search:
    """Where a storage is seen on this machine.

    Args:
        key: ``server:/path`` or ``pvc:namespace/claim``.
        setting: ``key=folder;…``, where a key may be an export above the one that is looked for.
        mount_table: The text of `MOUNT_TABLE`.
    """
    said, mounted = list(read_setting(setting)), list(_read_mount_table(mount_table))
    for candidates in (said, mounted):
        # The longest export lies nearest; of two mounts in one place the later one is seen.
        found = [(len(entry.key), n, folder) for n, entry in enumerate(candidates) if (folder := _within(key, entry))]
        if found:
            return Search(max(found)[2])
    shares = ", ".join(f"{entry.key} on {entry.folder}" for entry in mounted)
    return Search(None, (f"{_SETTING} ({setting or 'not set'})", f"the mount table (NFS in it: {shares or 'none'})"))


def read_setting(setting: str) -> Iterator[Mounted]:
    """The entries of TRIALFLOW_STORAGE_MOUNTS; what has no folder is passed over."""
    for entry in setting.split(";"):
        key, _, folder = entry.strip().rpartition("=")
        if key and folder.startswith("/"):
            yield Mounted(key.strip(), folder.strip())


def _read_mount_table(text: str) -> Iterator[Mounted]:
    """The NFS shares; fields as in proc(5): … root mount-point options - type source super-options."""
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        fields, (kind, source, *options) = left.split(), [*right.split(), "", ""]
        if separator and kind.startswith("nfs") and len(fields) > 4:
            root, folder = (_ESCAPE.sub(lambda match: chr(int(match[1], 8)), field) for field in fields[3:5])
            export = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), source)
            if root != "/":  # A bind mount of a folder in the share.
                export = f"{export.rstrip('/')}{root}"
            address = re.search(r"(?:^|,)addr=([^,]+)", ",".join(options))
            yield Mounted(export, folder, address[1] if address else "")


def _within(key: str, entry: Mounted) -> Path | None:
    """The folder in which ``key`` is seen, if the entry is it or lies above it."""
    server, path = _split(key)
    entry_server, entry_path = _split(entry.key)
    if server not in (entry_server, entry.server_address) or not path.is_relative_to(entry_path):
        return None
    return Path(entry.folder) / path.relative_to(entry_path)


def _split(key: str) -> tuple[str, PurePosixPath]:
    """Server (without the brackets of an IPv6 address) and path; a claim has no path."""
    server, separator, path = key.partition(":/")
    return server.strip("[]"), PurePosixPath(f"/{path}" if separator else "/")
