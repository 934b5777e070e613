"""Report pages: one HTML file each, with everything inside, for the screen, the phone and paper."""

from releve.report.demo import DemoResult, write_demo_report
from releve.report.write import FILES, write_report

__all__ = ["FILES", "DemoResult", "write_demo_report", "write_report"]
