"""ODMAP: the standard protocol of species distribution models, filled from a run as far as the run knows.

References
----------
Zurell et al. (2020), A standard protocol for reporting species distribution models, doi:10.1111/ecog.04960. The
elements are those of its web application.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from releve.report.facts import Facts
from releve.report.odmap import data, model

ELEMENTS = Path(__file__).with_name("elements.csv")
FILLED, OPEN = "filled", "for the author"
FILLS = data.FILLS | model.FILLS


def fill_odmap(facts: Facts) -> pl.DataFrame:
    """Return one row an element: ``section, subsection, element_id, element, value, status``.

    The status is ``filled``, or ``for the author`` where the value is a hint, or lacks something, marked by
    ``[for the author]``.
    """
    rows = []
    for element in pl.read_csv(ELEMENTS, glob=False).to_dicts():
        fill = FILLS.get(element["element_id"])
        value = fill(facts) if fill else ""
        value = value or f"[{OPEN}] {element['hint']}"
        status = OPEN if f"[{OPEN}]" in value else FILLED
        rows.append(
            {name: text for name, text in element.items() if name != "hint"} | {"value": value, "status": status}
        )
    return pl.DataFrame(rows)
