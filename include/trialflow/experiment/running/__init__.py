"""Running an experiment: its steps, those of its trials, and the tuner that is asked."""

from trialflow.experiment.running.context import ExperimentContext
from trialflow.experiment.running.experiment import ExperimentSteps
from trialflow.experiment.running.trials import TrialSteps
from trialflow.experiment.running.watch import TrialWatch

__all__ = ["ExperimentContext", "ExperimentSteps", "TrialSteps", "TrialWatch"]
