from . import (
    accounts,
    audit_log,
    batches,
    bulk_actions,
    connections,
    consents,
    imports,
    instructions,
    requests,
    staff,
    terms,
    tokens,
)

__all__ = [
    "accounts",
    "audit_log",
    "batches",
    "bulk_actions",
    "connections",
    "consents",
    "imports",
    "instructions",
    "requests",
    "staff",
    "terms",
    "tokens",
]
