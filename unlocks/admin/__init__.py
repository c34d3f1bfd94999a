from . import accounts, acts, audit, batches, consents, requests, staff, terms

__all__ = ["accounts", "acts", "audit", "batches", "consents", "requests", "staff", "terms"]
