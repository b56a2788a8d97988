"""The plugin by which Airflow's API server finds the interface; every other process loads only this file of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from collections.abc import Iterator

URL_PREFIX = "/api/v1/nni"


class _Apps(list[Any]):
    """A list that is filled when it is first read, which only the API server does."""

    def __iter__(self) -> Iterator[Any]:
        if not len(self):
            from trialflow_airflow.web.app import make_app

            self.append({"app": make_app(), "url_prefix": URL_PREFIX, "name": "Trialflow"})
        return super().__iter__()


class TrialflowPlugin(AirflowPlugin):
    """Registers the interface."""

    name = "trialflow"
    fastapi_apps: list[Any] = _Apps()
