"""Code staged into a folder of a mounted file system: a local disk, or a share that is mounted here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from trialflow.errors import StagingError
from trialflow.staging.files import CodeFile, digest_file, digest_of
from trialflow.trial_files import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Sequence

# The name under which a file is written; not made from its own, which may be as long as a name can be.
_COPYING = ".trialflow-copying"


class FolderStorage:
    """Stages into ``<folder>/code-<digest>``.

    The copy grows in a folder beside it, file by file, each written under another name and renamed; the whole is
    renamed when it is complete. A call that died leaves that folder behind, and the next one goes on in it.

    Args:
        folder: The experiment's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def stage(self, files: Sequence[CodeFile]) -> str:
        """Copy the files; a copy that is complete is not made again.

        Returns:
            The folder of the copy, which appears there complete or not at all.

        Raises:
            StagingError: The copy could not be completed; what was written is taken up by the next call.
        """
        target = self._folder / f"code-{digest_of(files)[:16]}"
        if self.is_staged(str(target)):
            return str(target)
        growing = target.with_name(f"{target.name}.partial")
        try:
            for stale in set(self._folder.glob("code-*.partial")) - {growing}:
                shutil.rmtree(stale)  # The code changed after that attempt died.
            growing.mkdir(parents=True, exist_ok=True)
            for file in files:
                _copy(file, growing / file.name, growing / _COPYING)
            for folder in (growing, *(path for path in growing.rglob("*") if path.is_dir())):
                folder.chmod(0o755)  # Trials may run as another user, whatever our umask.
            growing.rename(target)
        except OSError as error:
            if self.is_staged(str(target)):
                return str(target)  # Another copy of this call was faster with the rename.
            raise StagingError(
                f"the code could not be staged to {growing}: {error.strerror} (errno {error.errno}); "
                "make room or correct the rights, then run the task again: it goes on where this one stopped"
            ) from error
        return str(target)

    def is_staged(self, folder: str) -> bool:
        """Whether a complete copy lies in ``folder``."""
        return Path(folder).is_dir()


def _copy(file: CodeFile, target: Path, partial: Path) -> None:
    """Copy one file under another name and rename it; a finished copy is left alone."""
    if target.is_file() and target.stat().st_size == file.size and digest_file(target, file.size) == file.digest:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        file.copy_to(partial)
        partial.chmod(0o755 if file.executable else 0o644)
        if digest_file(partial, file.size) != file.digest:
            raise _changed(file)
        partial.rename(target)
    except TooLargeError as error:
        raise _changed(file) from error
    finally:
        partial.unlink(missing_ok=True)


def _changed(file: CodeFile) -> StagingError:
    return StagingError(f"{file.name} changed while it was staged; run the task again when it is at rest")
