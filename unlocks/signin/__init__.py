"""How staff sign in: django-allauth in the desk's look, words and limits. What happens stands in the ledger."""
