"""What Trialflow uses of Airflow beyond its public interface; another version of Airflow may move any of it.

Only Airflow's API server imports this module: it holds models and opens Airflow's database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.api.common.trigger_dag import trigger_dag
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, bearer_scheme, get_user
from airflow.exceptions import DagNotFound, DagRunAlreadyExists, ParamValidationError
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from fastapi import Request

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
    "find_user",
    "get_auth_manager",
    "trigger_dag",
]


async def find_user(request: Request) -> BaseUser:
    """Who makes a request, as Airflow's own routes tell it; raises what they answer without a login."""
    return await get_user(request, None, await bearer_scheme(request))
