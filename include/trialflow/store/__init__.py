"""The store: the ledger of experiments and trials, beside Optuna's storage in the same database."""

from trialflow.store.claims import ClaimRefusal, Refused
from trialflow.store.ledger import Store, open_store

__all__ = ["ClaimRefusal", "Refused", "Store", "open_store"]
