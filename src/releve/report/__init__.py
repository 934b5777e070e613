"""Report pages: one HTML file each, with everything inside, for the screen, the phone and paper."""

from releve.report.demo import DemoResult, write_demo_report
from releve.report.run import write_run_report

__all__ = ["DemoResult", "write_demo_report", "write_run_report"]
