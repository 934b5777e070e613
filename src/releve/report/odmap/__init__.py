"""The ODMAP protocol of a run."""
