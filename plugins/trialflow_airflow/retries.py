"""How long a task tries again: until an outage is over, and not at all long for what no waiting will mend."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from trialflow.errors import ConfigError, StoreError, TrainingError, TunerError, UnavailableError

if TYPE_CHECKING:
    from airflow.sdk import Context

# Airflow runs a step that was killed again at once. Between further tries it waits twice as long each time, so that
# a step outlasts an outage of at least 15 minutes.
OUTLASTS_AN_OUTAGE: dict[str, Any] = {
    "retries": 10,
    "retry_delay": timedelta(seconds=2),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=5),
}
# Nobody else does what `cleanup` does: it outlasts an outage of three hours.
CLEANUP_RETRIES = 45
# Each is an answer, of the store or of what runs the jobs, which more time will hardly change.
_REFUSALS = (ConfigError, StoreError, TunerError, TrainingError)
_TRIES_AFTER_A_REFUSAL = 4


class RefusalRetryPolicy(RetryPolicy):
    """Ends the tries of a task early whose work was refused; a trial would hold its place meanwhile."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None  # noqa: ARG002
    ) -> RetryDecision:
        """Leave the decision to the task's settings, unless this was refused often enough."""
        was_refused = isinstance(exception, _REFUSALS) and not isinstance(exception, UnavailableError)
        if was_refused and try_number >= _TRIES_AFTER_A_REFUSAL:
            return RetryDecision.fail("this was refused, and waiting longer would not change the answer")
        return RetryDecision.default()
