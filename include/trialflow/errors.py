"""The error tree; every message states the rule, the value and what to do.

    TrialflowError
     ├─ ConfigError           the experiment file, its search space or its code cannot be used as they are
     ├─ StagingError          the code could not be brought to the storage
     ├─ StoreError            the store answers, but not with what was expected
     │   ├─ NotFoundError     no such experiment or trial
     │   └─ ConflictError     the experiment is not in the state for that
     ├─ TunerError            the algorithm cannot suggest
     │   └─ UserClassError    a tuner, assessor or advisor of the user's own failed
     └─ TrainingError         a job could not be started or asked about
         └─ UnavailableError  nor could anybody say why: what runs the jobs is away, and may come back
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    # Makes a problem with a field of the experiment file: path of the field, rule, value, remedy.
    Place = Callable[..., "Problem"]

# A number with an exponent, of which YAML 1.1 wants to see a point and the exponent's sign.
_WITH_EXPONENT = re.compile(r"([-+]?[0-9]+)(\.[0-9]*)?e([-+]?)([0-9]+)", re.IGNORECASE)


class TrialflowError(Exception):
    """Anything that Trialflow refuses or fails to do, with a message for people."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an experiment's input.

    Attributes:
        field: Path of the field, ``trial.command``; empty when the whole file is meant.
        rule: What has to hold.
        value: What was found, as it should be shown; ``None`` when nothing was there.
        remedy: What to do about it.
        file: The file in which the field stands; empty for an inline experiment.
        line: Line of the field in that file, counted from 1.
    """

    field: str
    rule: str
    value: str | None = None
    remedy: str = ""
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        parts = [part for part in (place, self.field) if part]
        text = f"{': '.join([*parts, self.rule])}"
        if self.value is not None:
            text += f"; got {self.value}"
        return f"{text}. {self.remedy}" if self.remedy else f"{text}."


class ConfigError(TrialflowError):
    """The experiment's input is wrong; carries every problem found, not just the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        noun = "problem" if len(self.problems) == 1 else "problems"
        super().__init__(f"{len(self.problems)} {noun} in the experiment:\n{lines}")


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


class TrainingError(TrialflowError):
    """The training service could not start a job or say what became of it."""


class UnavailableError(TrainingError):
    """What runs the jobs is away for the time being; the same call may succeed later."""


def number_remedy(value: Any, file: str = "") -> str:
    """What to do about a text in the place of a number; empty when it is no number in disguise.

    Args:
        value: As it was read from YAML or JSON.
        file: Where from; in JSON every text has quotes.
    """
    try:
        float(value if isinstance(value, str) else "")
    except ValueError:
        return ""
    match = _WITH_EXPONENT.fullmatch(value)
    written = f"{match[1]}{match[2] or '.0'}e{match[3] or '+'}{match[4]}" if match else value
    if written.lower() == value.lower() or file.endswith(".json"):
        return "Remove the quotes"
    return f"YAML reads {value} as text; write {written}"
