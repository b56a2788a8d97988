"""Deleting the folder of an experiment, in which trials may have put anything."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from trialflow.errors import StoreError

if TYPE_CHECKING:
    from trialflow.records import Experiment


def remove_folder(experiment: Experiment) -> bool:
    """Delete the experiment's folder and nothing else: no link is followed. Tells whether there was one.

    Raises:
        StoreError: It is not a folder of its own, or something in it cannot be deleted from here.
    """
    folder = Path(experiment.folder)
    if not folder.is_absolute() or folder.name != experiment.id or ".." in folder.parts:
        raise StoreError(f"{folder} is not deleted: an experiment's folder bears its id; delete it by hand")
    if not os.path.lexists(folder):
        return False
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise StoreError(
            f"{error.filename or folder} cannot be deleted: {error.strerror}; "
            "correct its rights, or delete it by hand, then delete the experiment again"
        ) from error
    return True
