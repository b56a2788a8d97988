"""The base of NNI's tuners, assessors and advisors."""

import os


class Recoverable:
    """Has a folder for checkpoints; after a crash a class is rebuilt by repeating the calls made to it."""

    def load_checkpoint(self):
        """Do nothing, unless a subclass does."""

    def save_checkpoint(self):
        """Do nothing, unless a subclass does."""

    def get_checkpoint_path(self):
        """Return the folder for checkpoints."""
        path = os.environ.get("NNI_CHECKPOINT_DIRECTORY")
        return path if path and os.path.isdir(path) else None
