"""What becomes of an experiment whose run somebody deletes.

Airflow deletes the run's clean-up with it, and kills its tasks without another word. So the experiment's trials are
ended in the ledger, and if no other run is there to clear them away, another one is started that does nothing else.
"""

from __future__ import annotations

import logging
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.orm import object_session

from trialflow.errors import NotFoundError
from trialflow.experiment.operating.actions import Actions
from trialflow_airflow.airflow_internals import DagRun
from trialflow_airflow.identity import identify
from trialflow_airflow.web import runs

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Mapper, Session

logger = logging.getLogger(__name__)
WHO = "Airflow"


def watch_deletions() -> None:
    """Act on every run that this process deletes; may be repeated."""
    if not event.contains(DagRun, "after_delete", _note):
        event.listen(DagRun, "after_delete", _note)


def _note(_mapper: Mapper[Any], _connection: Connection, run: DagRun) -> None:
    """Wait for the end of the transaction: until then the run is there, and so may be a lock on the database."""
    session = object_session(run)
    if session is not None:
        event.listen(session, "after_commit", partial(_act, run.dag_id, run.run_id), once=True)


def _act(dag_id: str, run_id: str, _session: Session) -> None:
    Thread(target=_take_care, args=(dag_id, run_id), name=f"deleted {run_id}").start()


def _take_care(dag_id: str, run_id: str) -> None:
    try:
        actions = Actions(identify(dag_id, run_id).experiment_id, WHO)
        if actions.experiment.owner == dag_id:
            actions.end_run(run_id)
            runs.clear_away(actions)
    except NotFoundError:
        pass  # It was no experiment's run, or the experiment was deleted before.
    except Exception:
        logger.exception("The deleted run %s may have left trials; run: nnictl stop", run_id)
