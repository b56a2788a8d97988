"""An experiment's configuration as scripts write it: the keys of NNI's v2 format, as attributes in snake case.

Which attributes there are is told by the models of that format. What their values may be is told when the experiment
is read, as for a file.
"""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from trialflow.config import v2
from trialflow.config.fields import OPAQUE, Section, fold
from trialflow.errors import ConfigError
from trialflow.messages import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trialflow.records import JsonObject

# Keys whose values are paths on the machine of the script.
_PATHS = ("searchSpaceFile", "trialCodeDirectory", "codeDirectory", "experimentWorkingDirectory", "sshKeyFile",
          "privateRegistryAuthPath", "openpaiConfigFile")  # fmt: skip


def _snake(key: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", key).lower()


class ConfigBase:
    """A section of the configuration.

    Args:
        fields: Values by the names of the attributes; as in NNI, case and underscores do not matter here.

    Raises:
        AttributeError: There is no such attribute.
    """

    _model: ClassVar[type[Section]]
    _preset: ClassVar[Mapping[str, Any]] = {}
    _sections: ClassVar[Mapping[str, type[ConfigBase]]] = {}
    _values: dict[str, Any]

    def __init__(self, **fields: Any) -> None:
        object.__setattr__(self, "_values", {})
        known = {fold(name): name for name in self._names()}
        for name, value in {**self._preset, **fields}.items():
            setattr(self, known.get(fold(name), name), value)

    @classmethod
    def _names(cls) -> dict[str, str]:
        """Attribute → key."""
        return {_snake(key): key for key in cls._model.model_fields}

    def _key(self, name: str) -> str:
        names = self._names()
        if name not in names:
            near = get_close_matches(_snake(name), names, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there is: {', '.join(sorted(names))}"
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; {hint}")
        return names[name]

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep a value; a mapping in the place of a section becomes that section."""
        self._values[self._key(name)] = self._make_section(name, value)

    def _make_section(self, name: str, value: Any) -> Any:
        section = self._sections.get(name)
        if section is None:
            return value
        if isinstance(value, (list, tuple)):
            return [self._make_section(name, item) for item in value]
        return section(**value) if isinstance(value, dict) else value

    def __getattr__(self, name: str) -> Any:
        """Give a value, ``None`` where none was set."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self._values.get(self._key(name))

    def __dir__(self) -> list[str]:
        """The attributes too, for those who complete names."""
        return [*super().__dir__(), *self._names()]

    def __repr__(self) -> str:
        """What was set."""
        values = {_snake(key): value for key, value in self._values.items() if value is not None}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    def json(self) -> JsonObject:
        """What was set, by the keys of the file."""
        return {key: _plain(value) for key, value in self._values.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, ConfigBase):
        return value.json()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


class AlgorithmConfig(ConfigBase):
    """A tuner, assessor or advisor: one of NNI's by its ``name``, or a class of your own."""

    _model: ClassVar = v2.Algorithm


class CustomAlgorithmConfig(AlgorithmConfig):
    """A tuner, assessor or advisor of your own."""

    _preset: ClassVar = {"code_directory": "."}


class TrainingServiceConfig(ConfigBase):
    """What every platform has."""

    _model: ClassVar[type[Section]] = v2.TrainingService


class LocalConfig(TrainingServiceConfig):
    """Processes of Airflow's worker."""

    _model: ClassVar = v2.Local
    _preset: ClassVar = {"platform": "local"}


class RemoteMachineConfig(ConfigBase):
    """A machine that is reached over SSH."""

    _model: ClassVar = v2.Machine


class RemoteConfig(TrainingServiceConfig):
    """Machines that are reached over SSH."""

    _model: ClassVar = v2.Remote
    _preset: ClassVar = {"platform": "remote"}
    _sections: ClassVar = {"machine_list": RemoteMachineConfig}


class K8sStorageConfig(ConfigBase):
    """Where the code and the results of Kubernetes' jobs lie."""

    _model: ClassVar = v2.Storage

    @classmethod
    def _names(cls) -> dict[str, str]:
        return {**super()._names(), "storage": "storageType"}


class K8sNfsConfig(K8sStorageConfig):
    """An NFS export."""

    _preset: ClassVar = {"storage_type": "nfs"}


class K8sAzureStorageConfig(K8sStorageConfig):
    """An Azure file share."""

    _preset: ClassVar = {"storage_type": "azureStorage"}


class KubeflowRoleConfig(ConfigBase):
    """One role of a TFJob or PyTorchJob."""

    _model: ClassVar = v2.KubeflowRole


class KubeflowConfig(TrainingServiceConfig):
    """TFJobs or PyTorchJobs of a cluster."""

    _model: ClassVar = v2.Kubeflow
    _preset: ClassVar = {"platform": "kubeflow"}
    _sections: ClassVar = {
        "storage": K8sStorageConfig,
        "worker": KubeflowRoleConfig,
        "ps": KubeflowRoleConfig,
        "master": KubeflowRoleConfig,
    }


class FrameworkControllerRoleConfig(ConfigBase):
    """One role of a FrameworkController job."""

    _model: ClassVar = v2.TaskRole


class FrameworkControllerConfig(TrainingServiceConfig):
    """FrameworkController jobs of a cluster."""

    _model: ClassVar = v2.FrameworkController
    _preset: ClassVar = {"platform": "frameworkcontroller"}
    _sections: ClassVar = {"storage": K8sStorageConfig, "task_roles": FrameworkControllerRoleConfig}


class _OtherPlatformConfig(TrainingServiceConfig):
    """A platform on which trials cannot run; it takes any attribute, and is refused when the experiment is read."""

    def _key(self, name: str) -> str:
        head, *rest = name.split("_")
        return head + "".join(map(str.capitalize, rest))


class OpenpaiConfig(_OtherPlatformConfig):
    """Jobs of OpenPAI."""

    _preset: ClassVar = {"platform": "openpai"}


class AmlConfig(_OtherPlatformConfig):
    """Azure Machine Learning."""

    _preset: ClassVar = {"platform": "aml"}


class DlcConfig(_OtherPlatformConfig):
    """Alibaba's PAI-DLC."""

    _preset: ClassVar = {"platform": "dlc"}


class SharedStorageConfig(ConfigBase):
    """A storage that is mounted on every machine."""

    _model: ClassVar = v2.SharedStorage


class NfsConfig(SharedStorageConfig):
    """An NFS export."""

    _preset: ClassVar = {"storage_type": "NFS"}


class AzureBlobConfig(SharedStorageConfig):
    """A container of Azure's."""

    _preset: ClassVar = {"storage_type": "AzureBlob"}


_PLATFORMS: dict[str, type[TrainingServiceConfig]] = {
    "local": LocalConfig,
    "remote": RemoteConfig,
    "kubeflow": KubeflowConfig,
    "frameworkcontroller": FrameworkControllerConfig,
    "openpai": OpenpaiConfig,
    "aml": AmlConfig,
    "dlc": DlcConfig,
}


def _make_platform(name: Any, **fields: Any) -> TrainingServiceConfig:
    if name not in _PLATFORMS:
        rule, remedy = "must be a platform of NNI's", f"Use one of: {', '.join(_PLATFORMS)}"
        raise ConfigError([Problem("training_service.platform", rule, repr(name), remedy)])
    return _PLATFORMS[name](**fields)


class ExperimentConfig(ConfigBase):
    """A whole experiment.

    Args:
        training_service_platform: Makes empty sections, in which attributes can be set: ``config.tuner.name = "TPE"``.
        fields: As in `ConfigBase`.

    Raises:
        ConfigError: There is no such platform.
    """

    _model: ClassVar = v2.ExperimentV2
    _preset: ClassVar = {"trial_code_directory": "."}
    _sections: ClassVar = {
        "tuner": AlgorithmConfig,
        "assessor": AlgorithmConfig,
        "advisor": AlgorithmConfig,
        "shared_storage": SharedStorageConfig,
    }
    # Where relative paths start; without it, in the working directory of the moment.
    _folder: Path | None = None

    def __init__(self, training_service_platform: str | list[str] | None = None, **fields: Any) -> None:
        if training_service_platform is not None:
            names = training_service_platform
            service = [_make_platform(name) for name in names] if isinstance(names, list) else _make_platform(names)
            empty = {section: AlgorithmConfig(class_args={}) for section in ("tuner", "assessor", "advisor")}
            fields = {**empty, "training_service": service, **fields}
        super().__init__(**fields)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ExperimentConfig:
        """Read a file in the v2 format.

        Raises:
            AttributeError: It has a key that there is not.
            ConfigError: It holds no mapping.
        """
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ConfigError([Problem("", "must be a mapping", None, "Is this an experiment file?", str(path))])
        config = cls(**data)
        object.__setattr__(config, "_folder", Path(path).absolute().parent)
        return config

    def _make_section(self, name: str, value: Any) -> Any:
        if name == "training_service" and isinstance(value, dict):
            fields = {fold(str(key)): item for key, item in value.items()}
            return _make_platform(fields.get("platform"), **fields)
        if name == "training_service" and isinstance(value, list):
            return [self._make_section(name, item) for item in value]
        return super()._make_section(name, value)

    def json(self) -> JsonObject:
        """What was set, by the keys of the file; sections in which nothing was set are left out."""
        found = super().json()
        for section in ("tuner", "assessor", "advisor"):
            if not any(found.get(section, {}).get(key) for key in ("name", "className", "classArgs")):
                found.pop(section, None)
        return found

    def document(self) -> JsonObject:
        """The same with absolute paths, so that it means the same anywhere on this machine."""
        folder = self._folder or Path.cwd()
        document: JsonObject = _with_absolute_paths(self.json(), folder)
        document.setdefault("experimentName", folder.name or "experiment")
        return document

    def validate(self) -> None:
        """Check everything that can be checked without running it.

        Raises:
            ConfigError: With everything that is wrong.
        """
        from trialflow.experiment.loading.load import load_experiment
        from trialflow.settings import get_settings

        load_experiment(self.document(), get_settings(), str(self._folder or Path.cwd()), preflight=False)


def _with_absolute_paths(value: Any, folder: Path, key: str = "") -> Any:
    if key in OPAQUE:
        return value
    if isinstance(value, dict):
        return {name: _with_absolute_paths(item, folder, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_absolute_paths(item, folder) for item in value]
    if key in _PATHS and isinstance(value, str) and not value.startswith("~"):
        return os.path.normpath(folder / value)
    return value
