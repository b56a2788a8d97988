"""Settings of an installation, from environment variables ``TRIALFLOW_*``."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from trialflow.records import NoticeEvent

# Of Airflow's files, those that may lie elsewhere than in AIRFLOW_HOME.
_AIRFLOW_FILES = ("AIRFLOW_CONFIG", "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE")


class NotifierSettings(BaseModel):
    """One of Airflow's notifiers.

    Attributes:
        path: Of its class: ``airflow.providers.slack.notifications.slack.SlackNotifier``.
        kwargs: Its arguments.
        on: Of which events it tells.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
    kwargs: dict[str, Any] = {}
    on: tuple[NoticeEvent, ...] = tuple(NoticeEvent)


class Settings(BaseSettings):
    """What an operator may set; the environment variable is the name in upper case after ``TRIALFLOW_``.

    A variable that is set to nothing is as good as one that is not set.
    """

    model_config = SettingsConfigDict(env_prefix="TRIALFLOW_", env_ignore_empty=True, frozen=True)

    home: Path = Field(
        default=Path("~/trialflow"), description="Folder of everything that Trialflow writes: one per experiment."
    )
    store: str = Field(
        default="", description="Database URL of the store; empty: an SQLite file in the home folder."
    )
    allowed_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Folders, separated by ':', in which experiment files, search spaces and code may lie; "
        "empty: all that the worker can read, except TRIALFLOW_HOME and AIRFLOW_HOME.",
    )
    max_code_bytes: int = Field(default=1 << 30, gt=0, description="Largest code folder that is staged.")
    max_code_files: int = Field(default=20_000, gt=0, description="Most files that a code folder may hold.")
    max_upload_bytes_per_user: int = Field(
        default=5 << 30, gt=0, description="Most that one user's uploads may take, those that experiments use included."
    )
    max_upload_bytes: int = Field(default=50 << 30, gt=0, description="Most that the uploads of all users may take.")
    min_free_bytes: int = Field(
        default=1 << 30, ge=0, description="What uploads leave free of the disk on which TRIALFLOW_HOME lies."
    )
    batch_size: int = Field(default=20, ge=1, le=200, description="Trials carried by one DAG run.")
    wait_in_worker_seconds: float = Field(
        default=20.0,
        ge=0,
        description="How long a task waits in the worker before it defers to the triggerer; 0: defers at once.",
    )
    trial_attempts: int = Field(
        default=3, ge=1, description="Jobs made for one trial when the infrastructure loses them."
    )
    max_trial_output_bytes: int = Field(
        default=256 << 20,
        ge=1 << 16,
        description="Most that is kept of what a local trial writes to stdout, and to stderr: half from its beginning, "
        "half from its end.",
    )
    trial_sdk: Literal["auto", "own"] = Field(
        default="auto",
        description="Which `nni` a trial imports: 'auto' prefers an installed one, 'own' forces Trialflow's.",
    )
    study_interval_seconds: float = Field(
        default=0.0,
        ge=0,
        description="How often the Optuna study of a running experiment is brought up to date, for those who watch it "
        "with optuna-dashboard; 0: only when the experiment ends.",
    )
    trial_python_path: str = Field(
        default="",
        description="Environment, or folder of programs, with the Python of local trials; for experiments that name "
        "none and were not started by nnictl on the worker's machine. Empty: the worker's own.",
    )
    class_call_seconds: float = Field(
        default=600.0, gt=0, description="How long one call of a tuner, assessor or advisor of the user's own may take."
    )
    api_connection: str = Field(
        default="trialflow_api", description="Airflow connection with the API's address and login."
    )

    notifiers: tuple[NotifierSettings, ...] = Field(
        default=(),
        description="Airflow's notifiers that tell people of experiments, as a JSON list of objects: 'path' of the "
        "class, 'kwargs' for it, and 'on', a list of done, failed, stalled, improved (without it, all).",
    )
    stalled_after_seconds: float = Field(
        default=6 * 3600.0, gt=0, description="Without a new result for so long, an experiment stands still."
    )
    improved_after_trials: int = Field(
        default=10, ge=1, description="An improvement is told after so many trials without one."
    )

    platforms: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Platforms on which experiments may run, separated by ','; empty: all that are built."
    )
    user_classes: bool = Field(
        default=True, description="Whether experiments may bring a tuner, assessor or advisor of their own."
    )
    pod_policy: Literal["baseline", "any"] = Field(
        default="baseline",
        description="What a podTemplate may ask for: 'baseline', as in the Pod Security Standards, or 'any'.",
    )
    namespaces: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Namespaces in which an experiment may run jobs, separated by ','; empty: any."
    )
    service_accounts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Service accounts that an experiment may name, separated by ','; empty: any."
    )
    kubernetes_connection: str = Field(
        default="kubernetes_default", description="Airflow connection with which kubeflow jobs are made."
    )
    kubernetes_context: str | None = Field(
        default=None, description="Context of the kubeconfig, where no Airflow connection is used."
    )
    storage_mounts: str = Field(
        default="",
        description="Where storages are mounted here, separated by ';': 'server:/path=/mnt/x' for NFS, "
        "'pvc:namespace/claim=/mnt/y' for a claim; what is not named is looked for in the mount table.",
    )
    waiting_limit_seconds: float = Field(
        default=3600.0, gt=0, description="How long a job may wait for its first pod to run; then it counts as lost."
    )
    keep_jobs: Literal["never", "failed"] = Field(
        default="never", description="Which jobs stay in the cluster after their end, to be looked at."
    )

    @field_validator("allowed_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: Any) -> Any:
        return tuple(part for part in value.split(":") if part) if isinstance(value, str) else value

    @field_validator("platforms", "namespaces", "service_accounts", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("home")
    @classmethod
    def _expand_home(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def private_folders(self) -> tuple[Path, ...]:
        """What no experiment may read: everything that is written here, and Airflow's own files."""
        files = map(os.environ.get, _AIRFLOW_FILES)
        return (self.home, _airflow_home(), *(Path(file).absolute() for file in files if file))

    @property
    def readable_roots(self) -> tuple[Path, ...]:
        """The allowed roots; without any, all folders but the private ones, in which DAGs may lie nevertheless."""
        airflow = _airflow_home()
        dags = Path(os.environ.get("AIRFLOW__CORE__DAGS_FOLDER") or airflow / "dags").expanduser()
        is_inside = dags != airflow and dags.is_relative_to(airflow)
        return self.allowed_roots or (Path("/"), *([dags] if is_inside else []))

    @property
    def uploads(self) -> Path:
        """Folder of the experiments that were sent here, one folder each."""
        return self.home / "uploads"

    @property
    def store_url(self) -> str:
        """The store's database URL, with the default filled in."""
        return self.store or f"sqlite:///{self.home / 'trialflow.db'}"


def _airflow_home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser().absolute()


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process; read once."""
    return Settings()
