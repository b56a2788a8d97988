"""Contract suites for the seams: what every store, training service and tuner has to hold to."""

from trialflow.testing.contracts import StoreContract, TrainingServiceContract, TunerContract, make_spec

__all__ = ["StoreContract", "TrainingServiceContract", "TunerContract", "make_spec"]
