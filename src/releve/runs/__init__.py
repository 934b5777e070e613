"""A trained run: its folder, its provenance, what its members predict, runs joined."""
