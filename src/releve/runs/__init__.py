"""A trained run: its folder, its record, what its members predict, runs joined."""
