"""What Trialflow uses of Airflow beyond its public interface; another version of Airflow may move any of it.

Only Airflow's API server imports this module: it holds models and opens Airflow's database.
"""

from airflow.api.common.trigger_dag import trigger_dag
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.exceptions import DagNotFound, DagRunAlreadyExists, ParamValidationError
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType

__all__ = [
    "DagAccessEntity",
    "DagDetails",
    "DagModel",
    "DagNotFound",
    "DagRun",
    "DagRunAlreadyExists",
    "DagRunState",
    "DagRunTriggeredByType",
    "GetUserDep",
    "ParamValidationError",
    "Pool",
    "TaskInstance",
    "create_session",
    "get_auth_manager",
    "trigger_dag",
]
