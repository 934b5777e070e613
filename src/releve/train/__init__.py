"""One member, from its rows to its weights."""
