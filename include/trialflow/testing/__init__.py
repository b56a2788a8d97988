"""Contract suites for the seams: what every store, training service, tuner and assessor has to hold to."""

from trialflow.testing.algorithm_contracts import AssessorContract, TunerContract
from trialflow.testing.contracts import StoreContract, TrainingServiceContract, make_spec

__all__ = ["AssessorContract", "StoreContract", "TrainingServiceContract", "TunerContract", "make_spec"]
