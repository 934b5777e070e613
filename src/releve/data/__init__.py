"""Whole batches gathered by index, never file by file."""
