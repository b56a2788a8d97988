"""The store: the ledger of experiments and trials, beside Optuna's storage in the same database."""

from trialflow.store.claims import ClaimRefusal, Refused
from trialflow.store.control import Adjustable, Control
from trialflow.store.ledger import Store, open_store
from trialflow.store.queries import MetricQuery
from trialflow.store.reported import ReportedMetric

__all__ = ["Adjustable", "ClaimRefusal", "Control", "MetricQuery", "Refused", "ReportedMetric", "Store", "open_store"]
