"""The base class of assessors; see NNI's documentation on customized assessors."""

from enum import Enum

from nni.recoverable import Recoverable

__all__ = ["AssessResult", "Assessor"]


class AssessResult(Enum):
    """Whether a trial goes on."""

    Good = True
    Bad = False


class Assessor(Recoverable):
    """Judges running trials; a subclass has `assess_trial`."""

    def assess_trial(self, trial_job_id, trial_history):
        """Return an `AssessResult` for a trial and all its intermediate metrics, as they were reported."""
        raise NotImplementedError("Assessor: assess_trial not implemented")

    def trial_end(self, trial_job_id, success):
        """Hear that a trial has ended."""

    def _on_exit(self):
        pass

    def _on_error(self):
        pass
