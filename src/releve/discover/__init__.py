"""A folder looked through: which of its files are plots, records and rasters, and the study.toml that says so."""
