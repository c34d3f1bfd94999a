from . import accounts, audit_log, batches, bulk_actions, consents, requests, staff, terms

__all__ = ["accounts", "audit_log", "batches", "bulk_actions", "consents", "requests", "staff", "terms"]
