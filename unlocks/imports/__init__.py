"""Files in which accounts, contacts, batches, their items and lines come in: read, staged and judged.

The verbs that write them are in `operations/imports.py`. Only `staging` and `judging` know tables.
"""
