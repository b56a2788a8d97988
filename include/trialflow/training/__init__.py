"""Training services: where a trial's job runs. Adding one is a file here and a row in the registry."""

from trialflow.training.base import JobHandle, JobRequest, JobState, Preflight, TrainingService, get_training_service

__all__ = ["JobHandle", "JobRequest", "JobState", "Preflight", "TrainingService", "get_training_service"]
