from ..models import LedgerEntry
from . import accounts, audit_log, batches, bulk_actions, consents, requests, staff, terms
from .site import desk

__all__ = ["accounts", "audit_log", "batches", "bulk_actions", "consents", "requests", "staff", "terms"]

# The audit log still registers on Django's default site.
desk.register(LedgerEntry, audit_log.LedgerEntryAdmin)
