from .accounts import Account, Contact
from .acts import Act, Selection, Verdict
from .batches import Batch, BatchItem
from .consents import Consent, ConsentedBatch, ConsentLink, ConsentTerms, ConsentWithdrawal
from .ledger import CaseEvent
from .requests import RequestedBatch, UnlockRequest

__all__ = [
    "Account",
    "Act",
    "Batch",
    "BatchItem",
    "CaseEvent",
    "Consent",
    "ConsentLink",
    "ConsentTerms",
    "ConsentWithdrawal",
    "ConsentedBatch",
    "Contact",
    "RequestedBatch",
    "Selection",
    "UnlockRequest",
    "Verdict",
]
