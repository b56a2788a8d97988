"""The files of the code that is staged, and what tells one list of them from another."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class CodeFile:
    """One file of the user's code.

    Attributes:
        name: Path below the code folder, with forward slashes.
        path: Where to read it, links resolved.
        size: In bytes.
        digest: SHA-256 of its content, in hex.
        executable: Whether its owner may execute it.
        content: What is staged instead of what lies at ``path``; ``size`` and ``digest`` are of this.
    """

    name: str
    path: Path
    size: int
    digest: str
    executable: bool
    content: bytes | None = None

    def with_content(self, content: bytes) -> CodeFile:
        """The same file with other content."""
        return replace(self, size=len(content), digest=hashlib.sha256(content).hexdigest(), content=content)

    def copy_to(self, target: Path) -> None:
        """Write what is to be staged to a local file."""
        if self.content is None:
            shutil.copyfile(self.path, target)
        else:
            target.write_bytes(self.content)


def digest_file(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def digest_of(files: Sequence[CodeFile]) -> str:
    """One digest for a list of files, the same for the same names, contents and execute bits."""
    total = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name):
        total.update(f"{file.name}\0{file.digest}\0{file.executable}\n".encode(errors="surrogateescape"))
    return total.hexdigest()
