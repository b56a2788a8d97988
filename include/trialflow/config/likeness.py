"""Whether a file is what its reader takes it for.

Anybody may name any file that the worker can read, and what is said of it stands in a log that others read. So of a
file that is no experiment, or no search space, neither a value nor a key is repeated: it may hold somebody's password.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trialflow.config.fields import fold
from trialflow.messages import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

REQUIRED = "is required"

# Keys that nothing else has, of both formats.
_KEYS = frozenset(
    map(
        fold,
        (
            "authorName", "experimentName", "trialConcurrency", "maxTrialNum", "maxTrialNumber", "maxExecDuration",
            "maxExperimentDuration", "trainingServicePlatform", "trainingService", "searchSpacePath",
            "searchSpaceFile", "searchSpace", "useAnnotation", "trialCommand", "trialCodeDirectory", "tuner",
            "assessor", "advisor", "trial", "experimentWorkingDirectory",
        ),
    )
)  # fmt: skip
_FEWEST_KEYS = 2
_KEY = re.compile(r"""(?:^|[\s{,-])["']?([A-Za-z_]\w{2,40})["']?[ \t]*:""")
_SPACE_KEYS = ("_type", "_value")

_QUOTED = re.compile(r"""["'].*["']""", re.DOTALL)
_NO_EXPERIMENT = "is no experiment file: of the keys that only those have, it has less than two"
_NO_SPACE = 'must be an object of parameters, {"name": {"_type": …, "_value": …}}'
_REMEDY = "Is this the right file?"


def discreet_about_text(problems: Sequence[Problem], text: str, *, is_space: bool) -> list[Problem]:
    """The problems of a text that cannot be read as a document, without what they repeat if it is none of ours."""
    is_ours = any(key in text for key in _SPACE_KEYS) if is_space else _has_keys(text)
    return list(problems) if is_ours else [_hide(problem) for problem in problems]


def discreet_about_experiment(problems: Sequence[Problem], data: Any, file: str) -> list[Problem]:
    """The problems of a file's document, without what they repeat if it is no experiment."""
    if isinstance(data, str) and _has_keys(data):
        return list(problems)
    if not isinstance(data, dict):
        return [_hide(problem) for problem in problems]
    if _are_enough(str(key) for key in data):
        return list(problems)
    return [Problem("", _NO_EXPERIMENT, None, _REMEDY, file), *(one for one in problems if one.rule == REQUIRED)]


def discreet_about_space(problems: Sequence[Problem], data: Any, file: str) -> list[Problem]:
    """The problems of a file's document, without what they repeat if it is no search space."""
    items = data.values() if isinstance(data, dict) else ()
    is_ours = any(isinstance(item, dict) and any(key in item for key in _SPACE_KEYS) for item in items)
    return list(problems) if is_ours or not problems else [Problem("searchSpace", _NO_SPACE, None, _REMEDY, file)]


def _has_keys(text: str) -> bool:
    return _are_enough(found[1] for found in _KEY.finditer(text))


def _hide(problem: Problem) -> Problem:
    """A problem without what stands in quotes, and without examples, which stand behind a colon."""
    rule, remedy = _QUOTED.sub("'…'", problem.rule), problem.remedy.partition(":")[0]
    return replace(problem, rule=rule, value=None, remedy=remedy)


def _are_enough(keys: Iterable[str]) -> bool:
    known = set()
    for key in keys:
        if (folded := fold(key)) in _KEYS:
            known.add(folded)
            if len(known) == _FEWEST_KEYS:
                return True
    return False
