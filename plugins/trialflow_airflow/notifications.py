"""Tells people of experiments, with Airflow's notifiers: a DAG of its own that looks every minute.

No task of an experiment does it: one that stands still is one whose tasks do not get on.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from importlib import import_module
from typing import TYPE_CHECKING

from airflow.sdk import DAG, BaseNotifier, BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from trialflow.errors import TrialflowError
from trialflow.experiment.showing.notices import Notice, send_notices
from trialflow.settings import get_settings
from trialflow.store import open_store

if TYPE_CHECKING:
    from airflow.sdk import Context

    from trialflow.settings import NotifierSettings


class SendNoticesOperator(BaseOperator):
    """Tell what has not been told; fails when a notifier does, and the next run tries again."""

    def execute(self, context: Context) -> None:
        settings = get_settings()

        def send(notifier: NotifierSettings, notice: Notice) -> None:
            make_notifier(notifier)({**context, "notice": notice.to_json()})
            self.log.info("%s told: %s", notifier.path, notice.text)

        problems = send_notices(open_store(settings.store_url), settings, send)
        if problems:
            raise AirflowFailException("\n".join(problems))


def make_notifier(settings: NotifierSettings) -> BaseNotifier:
    """The notifier that a setting names.

    Raises:
        TrialflowError: There is no such notifier.
    """
    module, _, name = settings.path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise TrialflowError(
            f"TRIALFLOW_NOTIFIERS must name classes that can be imported; {settings.path}: {error}; "
            "install its provider where tasks run, or correct the path"
        ) from error
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        raise TrialflowError(
            f"TRIALFLOW_NOTIFIERS must name subclasses of airflow.sdk.BaseNotifier; {settings.path} is none; "
            "name a notifier, such as airflow.providers.smtp.notifications.smtp.SmtpNotifier"
        )
    return found(**settings.kwargs)


def make_notification_dag() -> DAG | None:
    """The DAG; ``None`` where no notifier is set."""
    if not get_settings().notifiers:
        return None
    with DAG(
        "nni_notifications",
        description="Tells of experiments that are done, have failed, stand still, or have found something better.",
        doc_md=__doc__,
        schedule=timedelta(minutes=1),
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(minutes=10),
        is_paused_upon_creation=False,
        default_args={"owner": "trialflow"},
        tags=["trialflow"],
    ) as dag:
        SendNoticesOperator(task_id="send_notices")
    return dag
