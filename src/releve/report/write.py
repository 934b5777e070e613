"""A run's report: the page and the files beside it, from what the run and its evaluation left on disk."""

from __future__ import annotations

from pathlib import Path

from releve.files import write_text
from releve.report.facts import gather_facts
from releve.report.run import render_run
from releve.runs import Run


def write_report(run: Run) -> list[Path]:
    """Write the report of an evaluated run into its folder, and return the files, the page first.

    Nothing is predicted or scored: it can be written again at any time.

    Raises
    ------
    RunError
        If the run was not evaluated.
    StoreError
        If its store is gone or was prepared again.
    """
    facts = gather_facts(run)
    texts = {"report.html": render_run(facts)}
    for name, text in texts.items():
        write_text(run.path / name, text)
    return [run.path / name for name in texts]
