"""Running an experiment: its life, that of its trials, and the tuner that is asked."""

from trialflow.experiment.running.manager import ExperimentManager
from trialflow.experiment.running.watch import TrialWatch

__all__ = ["ExperimentManager", "TrialWatch"]
