"""Pseudo-plots: presence-only records that lie close together, read as one survey."""
