"""The API at /api/v1/: systems act by tokens, through the same verbs and the one rule (docs/integration.md)."""
