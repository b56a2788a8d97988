"""Operating an experiment: what people do to one that exists."""

from trialflow.experiment.operating.actions import Actions

__all__ = ["Actions"]
