from . import accounts, audit_log, batches, bulk_actions, connections, consents, requests, staff, terms

__all__ = ["accounts", "audit_log", "batches", "bulk_actions", "connections", "consents", "requests", "staff", "terms"]
