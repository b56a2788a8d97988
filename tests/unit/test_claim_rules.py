"""Who may claim next: the one function that says so, as a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trialflow.claim_rules import HANDOVER_SECONDS, SUBMISSION_SECONDS, ClaimRefusal, ClaimState, find_refusal
from trialflow.records import ExperimentStatus

NOW = 1000.0
# Of four trials two are made and one goes on, with one place left.
FREE = ClaimState(
    now=NOW,
    status=ExperimentStatus.RUNNING,
    is_overdue=False,
    has_reached_limit=False,
    max_trial_number=4,
    trial_concurrency=2,
    created=2,
    taken=1,
    ended=1,
)
FULL = replace(FREE, taken=2, ended=0)
IN_VAIN = replace(FREE, asked_in_vain_after=1)
LONG_AGO = {"oldest_unfollowed": NOW - HANDOVER_SECONDS - 1}
A_MOMENT_AGO = {"oldest_unfollowed": NOW - SUBMISSION_SECONDS - 1}
UNSUBMITTED = {**A_MOMENT_AGO, "oldest_unsubmitted": NOW - SUBMISSION_SECONDS - 1}


@pytest.mark.parametrize(
    ("state", "changes", "refusal"),
    [
        (FREE, {}, None),
        (FULL, {}, ClaimRefusal.NO_ROOM),
        (FULL, {"trial_concurrency": 3}, None),
        (FULL, {"taken": 5}, ClaimRefusal.NO_ROOM),
        # The tuner had nothing: it is asked again when a trial has ended since, or a person has given parameters.
        (IN_VAIN, {}, ClaimRefusal.NO_SUGGESTION),
        (IN_VAIN, {"ended": 2, "taken": 0}, None),
        (IN_VAIN, {"has_waiting_point": True}, None),
        (IN_VAIN, {"taken": 2}, ClaimRefusal.NO_SUGGESTION),
        (IN_VAIN, {"taken": 2, "ended": 2}, ClaimRefusal.NO_ROOM),
        (IN_VAIN, {"taken": 2, "has_waiting_point": True}, ClaimRefusal.NO_ROOM),
        (FREE, {"asked_in_vain_after": 0}, None),
        # A suggestion that was killed: who would wait gives way, who can claim does not.
        (FULL, UNSUBMITTED, ClaimRefusal.GIVE_WAY),
        (FULL, LONG_AGO, ClaimRefusal.GIVE_WAY),
        (FULL, A_MOMENT_AGO, ClaimRefusal.NO_ROOM),
        (IN_VAIN, UNSUBMITTED, ClaimRefusal.GIVE_WAY),
        (IN_VAIN, LONG_AGO, ClaimRefusal.GIVE_WAY),
        (FREE, UNSUBMITTED, None),
        (FULL, {"oldest_unsubmitted": NOW - SUBMISSION_SECONDS}, ClaimRefusal.NO_ROOM),
        (FULL, {"oldest_unfollowed": NOW - HANDOVER_SECONDS}, ClaimRefusal.NO_ROOM),
        # What ends the claims for good comes first, whatever room there is and whoever waits.
        (FREE, {"created": 4}, ClaimRefusal.NO_TRIALS_LEFT),
        (FULL, {"created": 4, **LONG_AGO}, ClaimRefusal.NO_TRIALS_LEFT),
        (FREE, {"created": 7}, ClaimRefusal.NO_TRIALS_LEFT),
        (FREE, {"is_overdue": True}, ClaimRefusal.DURATION_OVER),
        (IN_VAIN, {"is_overdue": True}, ClaimRefusal.DURATION_OVER),
        (FREE, {"is_overdue": True, "created": 4}, ClaimRefusal.NO_TRIALS_LEFT),
        (FREE, {"has_reached_limit": True}, ClaimRefusal.LIMIT_REACHED),
        (FULL, {"has_reached_limit": True}, ClaimRefusal.LIMIT_REACHED),
        (FREE, {"has_reached_limit": True, "is_overdue": True}, ClaimRefusal.DURATION_OVER),
        (FREE, {"status": ExperimentStatus.TUNER_NO_MORE_TRIAL}, ClaimRefusal.TUNER_EXHAUSTED),
        *(
            (state, {"status": status, "created": 4}, ClaimRefusal.NOT_RUNNING)
            for state in (FREE, FULL, IN_VAIN)
            for status in ExperimentStatus
            if status not in (ExperimentStatus.RUNNING, ExperimentStatus.TUNER_NO_MORE_TRIAL)
        ),
    ],
)
def test_who_may_claim_next(state: ClaimState, changes: dict[str, Any], refusal: ClaimRefusal | None) -> None:
    assert find_refusal(replace(state, **changes)) is refusal


def test_a_refusal_is_waited_out_or_stepped_aside_for_or_the_last() -> None:
    waits = {refusal for refusal in ClaimRefusal if refusal.waits}
    last = {refusal for refusal in ClaimRefusal if refusal.is_last}

    assert waits == {ClaimRefusal.NO_ROOM, ClaimRefusal.NO_SUGGESTION}
    assert set(ClaimRefusal) - waits - last == {ClaimRefusal.GIVE_WAY}
    assert not waits & last
