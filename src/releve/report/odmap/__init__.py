"""The ODMAP protocol of a run."""

from releve.report.odmap.fill import FILLED, OPEN, fill_odmap

__all__ = ["FILLED", "OPEN", "fill_odmap"]
