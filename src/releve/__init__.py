"""Relevé answers: which plants grow here.

Species distribution models for plants, deep and multi-modal, from presence-only records,
presence-absence plots, satellite patches, time series and environmental rasters.
"""

__version__ = "0.1.0"
