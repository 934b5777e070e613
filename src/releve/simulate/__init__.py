"""A virtual world with known truth, written in an official layout."""
