"""What an experiment does: loading, the life of its trials, and its results."""

from trialflow.experiment.loading import load_experiment
from trialflow.experiment.manager import ExperimentManager
from trialflow.experiment.watch import TrialWatch

__all__ = ["ExperimentManager", "TrialWatch", "load_experiment"]
