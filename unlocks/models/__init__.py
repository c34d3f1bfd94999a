from .accounts import CONFIRMED, Account, Contact
from .acts import LONGEST_WINDOW, Act, OrderedAct, Selection, Verdict
from .batches import Batch, BatchItem
from .case_files import CaseFiles
from .certificates import Certificate, CheckAttempts
from .consents import (
    Consent,
    ConsentedBatch,
    ConsentEvidence,
    ConsentLink,
    ConsentTerms,
    ConsentWithdrawal,
    LinkOpening,
    ResentReceipt,
)
from .imports import (
    Import,
    ImportProblem,
    Judgment,
    StagedAccount,
    StagedBatch,
    StagedContact,
    StagedItem,
    StagedLines,
)
from .instructions import Instruction
from .ledger import BY_CUSTOMERS, BY_THE_DESK, LedgerEntry
from .outbox import Outgoing, Worker
from .requests import BYPASS_OTHER, TICKET, RequestedBatch, UnlockRequest
from .reviews import Review, ReviewDecision
from .saved_views import SavedView
from .searched import SearchWord
from .sessions import CacheRow, DeskSession
from .staff_links import StaffLink
from .tokens import ApiCall, ApiToken

__all__ = [
    "BYPASS_OTHER",
    "BY_CUSTOMERS",
    "BY_THE_DESK",
    "CONFIRMED",
    "LONGEST_WINDOW",
    "TICKET",
    "Account",
    "Act",
    "ApiCall",
    "ApiToken",
    "Batch",
    "BatchItem",
    "CacheRow",
    "CaseFiles",
    "Certificate",
    "CheckAttempts",
    "Consent",
    "ConsentEvidence",
    "ConsentLink",
    "ConsentTerms",
    "ConsentWithdrawal",
    "ConsentedBatch",
    "Contact",
    "DeskSession",
    "Import",
    "ImportProblem",
    "Instruction",
    "Judgment",
    "LedgerEntry",
    "LinkOpening",
    "OrderedAct",
    "Outgoing",
    "RequestedBatch",
    "ResentReceipt",
    "Review",
    "ReviewDecision",
    "SavedView",
    "SearchWord",
    "Selection",
    "StaffLink",
    "StagedAccount",
    "StagedBatch",
    "StagedContact",
    "StagedItem",
    "StagedLines",
    "UnlockRequest",
    "Verdict",
    "Worker",
]
