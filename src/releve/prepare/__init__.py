"""From what was read to what can be learned from."""
