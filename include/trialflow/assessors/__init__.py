"""Assessors: what stops a bad trial early. One algorithm, one file, one row in the registry."""

from trialflow.assessors.base import Assessor, check_assessor, get_assessor

__all__ = ["Assessor", "check_assessor", "get_assessor"]
