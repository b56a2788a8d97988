"""NNI's search space: what each type draws, and how a value travels through an Optuna distribution."""

from trialflow.search_space.parameters import TYPES, Z_BOUND, Option, Parameter, SearchSpace
from trialflow.search_space.parsing import parse_search_space

__all__ = ["TYPES", "Z_BOUND", "Option", "Parameter", "SearchSpace", "parse_search_space"]
