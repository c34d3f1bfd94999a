from . import accounts, acts, audit, batches, requests, staff

__all__ = ["accounts", "acts", "audit", "batches", "requests", "staff"]
