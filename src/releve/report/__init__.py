"""Report pages: one HTML file each, with everything inside, for the screen, the phone and paper."""

from typing import Any

from releve.report.demo import DemoResult, write_demo_report
from releve.report.write import write_report
from releve.runs import Run

__all__ = ["DemoResult", "write_demo_report", "write_report", "write_run_report"]


def write_run_report(run: Run, *_: Any) -> None:
    """Write a run's report; the name that the pipeline calls until it calls ``write_report``."""
    write_report(run)
