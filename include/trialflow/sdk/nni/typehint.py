"""Names for what tuners and trials hand to each other; as NNI has them."""

from typing import Any, Dict

__all__ = ["ParameterRecord", "Parameters", "SearchSpace", "TrialMetric", "TrialRecord"]

Parameters = Dict[str, Any]
SearchSpace = Dict[str, Any]
TrialMetric = float
ParameterRecord = Dict[str, Any]
TrialRecord = Dict[str, Any]
