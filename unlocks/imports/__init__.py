"""Reading the files that accounts, contacts, batches, their items and lines come in as; nothing is stored here."""
