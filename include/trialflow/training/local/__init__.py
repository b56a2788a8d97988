"""The local platform: trials as processes of the worker's machine. `service` is the place to start reading."""

from trialflow.training.local.service import LocalTrainingService

__all__ = ["LocalTrainingService"]
