"""A run's report: the page and the files beside it, from what the run and its evaluation left on disk."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from releve.files import write_text
from releve.report.citations import list_works, write_bibtex
from releve.report.documents import render_card, render_methods, write_methods
from releve.report.facts import Facts, gather_facts
from releve.report.odmap.fill import FILLED, fill_odmap
from releve.report.page import render_page
from releve.report.run import render_run
from releve.runs.folder import FILES, Run


def write_report(run: Run) -> list[Path]:
    """Write the report of an evaluated run into its folder, and return the files, in the order of ``FILES``.

    Nothing is predicted or scored: it can be written again at any time.

    Raises
    ------
    RunError
        If the run was not evaluated.
    StoreError
        If its store is gone or was prepared again.
    """
    facts = gather_facts(run)
    odmap = fill_odmap(facts)
    texts = (
        render_report(facts, odmap),
        render_odmap(facts, odmap),
        odmap.write_csv(),
        render_card(facts),
        render_methods(facts),
        write_bibtex(list_works(facts)),
    )
    for name, text in zip(FILES, texts, strict=True):
        write_text(run.path / name, text)
    return [run.path / name for name in FILES]


def render_report(facts: Facts, odmap: pl.DataFrame) -> str:
    """Return the run's page, with its methods, references and what its ODMAP protocol holds."""
    return render_run(
        facts,
        methods=write_methods(facts),
        data_works=[work.text for work in list_works(facts, "records", "predictors")],
        method_works=[work.text for work in list_works(facts, "methods")],
        num_elements=len(odmap),
        num_filled=_count_filled(odmap),
    )


def render_odmap(facts: Facts, odmap: pl.DataFrame) -> str:
    """Return the ODMAP protocol as a page."""
    rows = odmap.to_dicts()
    names = odmap["section"].unique(maintain_order=True)
    sections = {name: [row for row in rows if row["section"] == name] for name in names}
    return render_page(
        "odmap.html.j2", title=facts.title, elements=rows, sections=sections, num_filled=_count_filled(odmap)
    )


def _count_filled(odmap: pl.DataFrame) -> int:
    return odmap.filter(pl.col("status") == FILLED).height
