"""Species lists and probabilities for new places."""
