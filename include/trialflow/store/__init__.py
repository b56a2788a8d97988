"""The store: the ledger of experiments and trials, beside Optuna's storage in the same database."""

from trialflow.claim_rules import ClaimRefusal
from trialflow.store.changes import Adjustable, ExperimentChange
from trialflow.store.claims import Refused
from trialflow.store.ledger import Store, open_store
from trialflow.store.metrics import ReportedMetric
from trialflow.store.queries import MetricQuery

__all__ = [
    "Adjustable",
    "ClaimRefusal",
    "ExperimentChange",
    "MetricQuery",
    "Refused",
    "ReportedMetric",
    "Store",
    "open_store",
]
