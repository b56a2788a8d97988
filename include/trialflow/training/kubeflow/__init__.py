"""The kubeflow platform: trials as TFJobs and PyTorchJobs. `service` is the place to start reading."""

from trialflow.training.kubeflow.service import KubeflowTrainingService

__all__ = ["KubeflowTrainingService"]
