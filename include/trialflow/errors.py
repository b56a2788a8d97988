"""The error tree; every message states the rule, the value and what to do.

    TrialflowError
     ├─ ConfigError           the experiment file, its search space or its code cannot be used as they are
     ├─ QuotaError            somebody holds as much as they may, or all together do
     ├─ StagingError          the code could not be brought to the storage
     ├─ StoreError            the store answers, but not with what was expected
     │   ├─ NotFoundError     no such experiment or trial
     │   └─ ConflictError     the experiment is not in the state for that
     ├─ TunerError            the algorithm cannot suggest
     │   ├─ UserClassError    a tuner, assessor or advisor of the user's own failed
     │   └─ ClassBusyError    one has not come to its answer yet
     └─ TrainingError         a job could not be started or asked about
         └─ UnavailableError  nor could anybody say why: what runs the jobs is away, and may come back
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trialflow.messages import Problem


# What is told of all that is wrong: nobody corrects more at a time.
MOST_PROBLEMS = 50


class TrialflowError(Exception):
    """Anything that Trialflow refuses or fails to do, with a message for people."""


class ConfigError(TrialflowError):
    """The experiment's input is wrong; carries every problem found, and tells the first of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [f"  - {problem}" for problem in self.problems[:MOST_PROBLEMS]]
        more = len(self.problems) - len(lines)
        lines += [f"  - and {more} more: correct these first"] if more else []
        noun = "problem" if len(self.problems) == 1 else "problems"
        super().__init__("\n".join([f"{len(self.problems)} {noun} in the experiment:", *lines]))


class QuotaError(TrialflowError):
    """There is no room for what somebody sends: of their own, of all users', or on the disk."""


class StagingError(TrialflowError):
    """The code could not be copied to the storage; nothing half-written is used."""


class StoreError(TrialflowError):
    """The store is not in the state that an operation needs."""


class NotFoundError(StoreError):
    """The store has no such experiment or trial."""


class ConflictError(StoreError):
    """The experiment or trial is in no state in which that can be done."""


class TunerError(TrialflowError):
    """The tuner or assessor cannot work with this experiment."""


class UserClassError(TunerError):
    """A tuner, assessor or advisor of the user's own raised or hung; the message ends with its traceback."""


class ClassBusyError(TunerError):
    """A class of the user's own has no answer yet; the same call is to be made again.

    Attributes:
        doing: The call that is being made.
    """

    def __init__(self, doing: str) -> None:
        super().__init__(f"the experiment's class is busy: {doing}")
        self.doing = doing


class TrainingError(TrialflowError):
    """The training service could not start a job or say what became of it."""


class UnavailableError(TrainingError):
    """What runs the jobs is away for the time being; the same call may succeed later."""


class BusyError(UnavailableError):
    """What the job needs is taken by others; the same call succeeds once they have ended, however long they take."""
