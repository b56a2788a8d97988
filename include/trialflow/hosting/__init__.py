"""Classes of the user's own: a tuner, an assessor or an advisor, hosted in one process per experiment."""

from trialflow.hosting.check import check_class
from trialflow.hosting.client import ClassHost
from trialflow.hosting.nni_usage import missing_parts

__all__ = ["ClassHost", "check_class", "missing_parts"]
