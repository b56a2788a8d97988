"""Tuners: what suggests parameters. One algorithm, one file, one row in the registry."""

from trialflow.tuners.base import Tuner, check_space, check_tuner, get_tuner
from trialflow.tuners.history import History, NoSuggestion, PastTrial, Suggestion

__all__ = [
    "History",
    "NoSuggestion",
    "PastTrial",
    "Suggestion",
    "Tuner",
    "check_space",
    "check_tuner",
    "get_tuner",
]
