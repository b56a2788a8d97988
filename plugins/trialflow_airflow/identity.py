"""Which experiment and which batch a DAG run carries: told by the run's id alone.

So every task, and the policy in the scheduler, knows its experiment without asking anybody. The run that starts an
experiment gives it an id derived from its own, which makes starting repeatable; the runs that follow carry it in
their run id.
"""

from __future__ import annotations

import hashlib
import re
import string
from typing import Any, NamedTuple

# The DAG that runs an experiment for which no other one is named.
DAG_ID = "nni_experiment"
_ALPHABET = string.ascii_lowercase + string.digits
_ID_LENGTH = 8
_FOLLOWING_RUN = re.compile(rf"trialflow__([a-z0-9]{{{_ID_LENGTH}}})__batch_([2-9]|[1-9][0-9]{{1,5}})")


class RunIdentity(NamedTuple):
    """The experiment that a run belongs to, and the trial batch that it carries, counted from 1."""

    experiment_id: str
    batch: int


def identify(dag_id: str, run_id: str) -> RunIdentity:
    """The identity of a run."""
    following = _FOLLOWING_RUN.fullmatch(run_id)
    if following:
        return RunIdentity(following[1], int(following[2]))
    number = int.from_bytes(hashlib.blake2b(f"{dag_id}\0{run_id}".encode(), digest_size=16).digest(), "big")
    letters = []
    for _ in range(_ID_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[digit])
    return RunIdentity("".join(letters), 1)


def following_run_id(experiment_id: str, batch: int) -> str:
    """The id of the run that carries a later batch, from the second one on."""
    return f"trialflow__{experiment_id}__batch_{batch}"


def following_conf(experiment_id: str, batch: int) -> dict[str, Any]:
    """The configuration of that run, for people: the experiment stands in the store, and in the first run alone."""
    return {"config": f"the experiment {experiment_id} in the store", "experiment_id": experiment_id, "batch": batch}


def pool_name(experiment_id: str) -> str:
    """The pool through which the experiment's jobs go."""
    return f"trialflow-{experiment_id}"
