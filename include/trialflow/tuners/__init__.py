"""Tuners: what suggests parameters. One algorithm, one file, one row in the registry."""

from trialflow.tuners.base import Tuner, check_tuner, get_tuner

__all__ = ["Tuner", "check_tuner", "get_tuner"]
