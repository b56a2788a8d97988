"""NNI's Python interface to experiments, which run on Airflow: for scripts and notebooks that were written for NNI."""

from __future__ import annotations

from .config import (
    AlgorithmConfig,
    AmlConfig,
    AzureBlobConfig,
    CustomAlgorithmConfig,
    DlcConfig,
    ExperimentConfig,
    FrameworkControllerConfig,
    FrameworkControllerRoleConfig,
    K8sAzureStorageConfig,
    K8sNfsConfig,
    K8sStorageConfig,
    KubeflowConfig,
    KubeflowRoleConfig,
    LocalConfig,
    NfsConfig,
    OpenpaiConfig,
    RemoteConfig,
    RemoteMachineConfig,
    TrainingServiceConfig,
)
from .data import TrialHyperParameters, TrialJob, TrialMetricData, TrialResult
from .experiment import Experiment, RunMode

__all__ = [
    "AlgorithmConfig", "AmlConfig", "AzureBlobConfig", "CustomAlgorithmConfig", "DlcConfig", "Experiment",
    "ExperimentConfig", "FrameworkControllerConfig", "FrameworkControllerRoleConfig", "K8sAzureStorageConfig",
    "K8sNfsConfig", "K8sStorageConfig", "KubeflowConfig", "KubeflowRoleConfig", "LocalConfig", "NfsConfig",
    "OpenpaiConfig", "RemoteConfig", "RemoteMachineConfig", "RunMode", "TrainingServiceConfig", "TrialHyperParameters",
    "TrialJob", "TrialMetricData", "TrialResult",
]  # fmt: skip
