from . import accounts, acts, audit_log, batches, consents, requests, staff, terms

__all__ = ["accounts", "acts", "audit_log", "batches", "consents", "requests", "staff", "terms"]
