"""The store: the ledger of experiments and trials, beside Optuna's storage in the same database."""

from trialflow.store.claims import ClaimRefusal, Refused
from trialflow.store.ledger import Store
from trialflow.store.locks import study_lock

__all__ = ["ClaimRefusal", "Refused", "Store", "study_lock"]
