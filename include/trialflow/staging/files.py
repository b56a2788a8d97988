"""The files of the code that is staged, and what tells one list of them from another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trialflow.trial_files import read_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


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
        with target.open("wb") as file:
            for chunk in self.chunks():
                file.write(chunk)

    def chunks(self) -> Iterator[bytes]:
        """What is to be staged.

        Raises:
            OSError: It cannot be read any more, or has grown.
        """
        return read_chunks(self.path, self.size) if self.content is None else iter((self.content,))


def digest_file(path: Path, max_bytes: int) -> str:
    """SHA-256 of a file's content, in hex; see `trialflow.trial_files.read_chunks`."""
    digest = hashlib.sha256()
    for chunk in read_chunks(path, max_bytes):
        digest.update(chunk)
    return digest.hexdigest()


def digest_of(files: Sequence[CodeFile]) -> str:
    """One digest for a list of files, the same for the same names, contents and execute bits."""
    total = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name):
        total.update(f"{file.name}\0{file.digest}\0{file.executable}\n".encode(errors="surrogateescape"))
    return total.hexdigest()
