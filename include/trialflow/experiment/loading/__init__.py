"""Loading an experiment: its file, its search space and its code, checked before anything is made."""

from trialflow.experiment.loading.load import load_experiment

__all__ = ["load_experiment"]
