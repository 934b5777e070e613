"""The page of an explanation: what drives a run, from the tables that ``releve explain`` left; nothing is measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from releve.errors import RunError
from releve.explain.write import ARRAYS, FACTS
from releve.files import write_text
from releve.report.explanation_figures import draw_importance, draw_pair, draw_patch, draw_response, draw_series
from releve.report.figures import CATEGORIES
from releve.report.maps import Layer, draw_map
from releve.report.page import is_number, render_page

PAGE = "explain.html"
NUM_SHOWN = 20
"""Variables in the chart of importance."""
NUM_ROWS = 40
"""Rows of the table of importance; the file has all."""
NUM_PARTNERS = 3
"""Correlated variables that are named in a row."""
NUM_FACTORS = 7
"""Limiting covariates with a colour of their own."""
NUM_OPTIMA = 12
REST = CATEGORIES[6]
TEXT = {"variable", "kind", "modality", "shuffled", "correlated_with", "species", "subject", "label", "survey_id"} | {
    *("first", "second", "factor", "usual_label", "shape", "channel", "unit")
}
"""Columns of words; all others are numbers."""
SCORES = {
    "loglik_lost": "log-likelihood lost a survey, in nats",
    "f1_lost": "sF1 lost",
    "auc_lost": "AUC lost",
}


def read_explanation(folder: Path) -> tuple[dict[str, pl.DataFrame], dict[str, Any]]:
    """Return the tables of an explanation by name, and how they were made.

    Raises
    ------
    RunError
        If the folder holds none.
    """
    if not (folder / FACTS).is_file():
        raise RunError(f"{folder} holds no explanation", action="Run releve explain first")
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    tables = {}
    for name in facts["tables"]:
        table = pl.read_csv(folder / f"{name}.csv", infer_schema_length=None, glob=False)
        kinds = {
            c: pl.String if c in TEXT else pl.Boolean if c.startswith("is_") else pl.Float64 for c in table.columns
        }
        tables[name] = table.cast(kinds)  # type: ignore[arg-type]
    return tables, facts


def write_explanation_page(folder: Path, title: str) -> Path:
    """Write the page of the tables in a folder into it, and return its path.

    Parameters
    ----------
    folder
        Where ``releve explain`` has written.
    title
        What the run is called.

    Raises
    ------
    RunError
        If the folder holds no explanation.
    """
    tables, facts = read_explanation(folder)
    arrays = np.load(folder / ARRAYS) if (folder / ARRAYS).is_file() else None
    rows = list_importance(tables["importance"])
    together, single = apart(rows)
    text = render_page(
        "explain.html.j2",
        title=title,
        facts=facts,
        rows=rows[:NUM_ROWS],
        num_more=max(0, len(rows) - NUM_ROWS),
        together=together,
        single=single,
        score=f"{facts['score']}_lost",
        score_name=SCORES[f"{facts['score']}_lost"],
        charts=draw_charts(tables["importance"]),
        counts=count_most_important(tables["species"]),
        correlated=tables["correlated"].to_dicts(),
        species=list_told(tables),
        responses=draw_responses(tables, facts),
        optima=list_optima(tables["optima"]),
        pairs=draw_pairs(tables, facts),
        limits=list_limiting(tables.get("limiting"), facts),
        saliency=draw_saliency(arrays, facts),
        salient=tables["saliency"].to_dicts() if "saliency" in tables else [],
        num_shown=NUM_SHOWN,
    )
    write_text(folder / PAGE, text)
    return folder / PAGE


def list_importance(importance: pl.DataFrame) -> list[dict[str, Any]]:
    """Return one row a shuffle, the largest loss first; losses within blocks have names that end in ``_within``."""
    scores = [name for name in SCORES if name in importance.columns]
    within = importance.filter(pl.col("shuffled") == "within blocks")
    within = within.select("variable", "kind", *(pl.col(name).alias(f"{name}_within") for name in scores))
    whole = importance.filter(pl.col("shuffled") == "everywhere")
    joined = whole.join(within, on=["variable", "kind"], how="left", maintain_order="left")
    rows = joined.sort("loglik_lost", descending=True, maintain_order=True).to_dicts()
    return [row | {"partners": _shortened(row["correlated_with"])} for row in rows]


def _shortened(names: str | None) -> str:
    """Return the first names of a list, and how many more there are.

    Examples
    --------
    >>> _shortened("a; b; c; d; e"), _shortened("a; b"), _shortened(None)
    ('a, b, c and 2 more', 'a, b', '')
    """
    parts = names.split("; ") if names else []
    more = len(parts) - NUM_PARTNERS
    return ", ".join(parts[:NUM_PARTNERS]) + (f" and {more} more" if more > 0 else "")


def draw_charts(importance: pl.DataFrame) -> dict[str, Markup | None]:
    """Return the charts of importance: of what is shuffled together, and of the single variables."""
    together, single = apart(list_importance(importance))
    lost = SCORES["loglik_lost"]
    return {
        "together": draw_importance(together, "together", lost, "loglik_lost"),
        "single": draw_importance(single[:NUM_SHOWN], "single", lost, "loglik_lost"),
    }


def apart(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of groups and modalities, and those of their single variables.

    A variable that is alone in its modality, such as all patches, is told beside the modalities; where nothing is
    looked at together, all are single.
    """
    joint = {row["modality"] for row in rows if row["kind"] != "variable"}
    if not joint:
        return [], list(rows)
    single = [row for row in rows if row["kind"] == "variable" and row["modality"] in joint]
    return [row for row in rows if row["kind"] != "variable" or row["modality"] not in joint], single


def count_most_important(species: pl.DataFrame) -> list[dict[str, Any]]:
    """Return for how many species a variable is the one that most is lost by, the most first."""
    counts = species.filter(pl.col("loglik_lost") > 0)["variable"].value_counts(sort=True, name="num_species")
    return counts.sort("num_species", "variable", descending=[True, False]).to_dicts()


def list_told(tables: dict[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """Return for each species that was asked for its name and the chart of its own losses."""
    if "species_importance" not in tables:
        return []
    found = []
    table = tables["species_importance"].filter(pl.col("kind") == "variable")
    for at, ((species,), own) in enumerate(table.group_by("species", maintain_order=True)):
        rows = own.sort("loglik_lost", descending=True, maintain_order=True).head(NUM_SHOWN // 2).to_dicts()
        chart = draw_importance(rows, f"species{at}", SCORES["loglik_lost"], "loglik_lost")
        found.append({"species": species, "chart": chart})
    return found


def with_unit(variable: str, units: dict[str, str]) -> str:
    """Return a variable with its unit in brackets, where it is known.

    Examples
    --------
    >>> with_unit("rain", {"rain": "mm"}), with_unit("slope", {})
    ('rain (mm)', 'slope')
    """
    return f"{variable} ({units[variable]})" if units.get(variable) else variable


def draw_responses(tables: dict[str, pl.DataFrame], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return for each subject its name and the figures of its responses, the most important variable first."""
    if "curves" not in tables or tables["curves"].is_empty():
        return []
    found = []
    for at, subject in enumerate(facts["subjects"]):
        figures = []
        for v, variable in enumerate(tables["curves"]["variable"].unique(maintain_order=True)):
            curves = tables["curves"].filter(pl.col("variable") == variable)
            kept = (pl.col("subject") == subject) | (~pl.col("is_asked") if at == 0 else pl.lit(False))
            lines = tables["lines"].filter(pl.col("variable") == variable, pl.col("subject") == subject)
            counts = tables["distribution"].filter(pl.col("variable") == variable)
            label, response = with_unit(variable, facts["units"]), response_name(subject, facts)
            svg = draw_response(curves.filter(kept), lines, counts, f"response{at}-{v}", label, response)
            figures.append({"variable": variable, "svg": svg})
        found.append({"subject": subject, "figures": figures})
    return found


def response_name(subject: str, facts: dict[str, Any]) -> str:
    """Return what the response of a subject is: a probability, or a number of species."""
    return "expected species" if subject == facts["community"] else "probability"


def list_optima(optima: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the strongest responses of single species, one a species: by how far their mean probability moves."""
    if optima.is_empty():
        return []
    span = (pl.col("highest") - pl.col("lowest")).alias("span")
    best = optima.with_columns(span).sort("span", descending=True, maintain_order=True)
    return best.unique("species", keep="first", maintain_order=True).head(NUM_OPTIMA).to_dicts()


def draw_pairs(tables: dict[str, pl.DataFrame], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return for each pair and subject its names and figure."""
    found = []
    groups = tables["pairs"].group_by("first", "second", "subject", maintain_order=True) if "pairs" in tables else ()
    for at, ((first, second, subject), pair) in enumerate(groups):
        labels = with_unit(str(first), facts["units"]), with_unit(str(second), facts["units"])
        svg = draw_pair(pair, f"pair{at}", labels, response_name(str(subject), facts))
        found.append({"first": first, "second": second, "subject": subject, "svg": svg})
    return found


def list_limiting(limiting: pl.DataFrame | None, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return for each subject a map of plots by what limits it, and how often each covariate does, the most first."""
    found = []
    for at, subject in enumerate(facts["subjects"] if limiting is not None else ()):
        assert limiting is not None
        own = limiting.filter(pl.col("subject") == subject)
        rise = (pl.col("raised") - pl.col("response")).mean()
        counts = own.group_by("factor", maintain_order=True).agg(pl.len().alias("num_plots"), rise.alias("rise"))
        counts = counts.sort("num_plots", "factor", descending=[True, False])
        shown = counts["factor"].to_list()[:NUM_FACTORS]
        colours = dict(zip(shown, _colours(), strict=False))
        rest = own.filter(~pl.col("factor").is_in(shown))
        layers = [Layer(rest["lon"], rest["lat"], REST)] if rest.height else []
        for factor, colour in colours.items():
            part = own.filter(pl.col("factor") == factor)
            layers.append(Layer(part["lon"], part["lat"], colour))
        svg = draw_map(layers, f"limiting{at}", f"Map of {own.height} plots by what limits {subject}")
        digits = 1 if subject == facts["community"] else 3
        rows = [row | {"colour": colours.get(row["factor"], REST)} for row in counts.to_dicts()]
        found.append({"subject": subject, "svg": svg, "rows": rows, "num": own.height, "digits": digits})
    return found


def _colours() -> list[str]:
    return [colour for colour in CATEGORIES if colour != REST]


def draw_saliency(arrays: Any, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return for each modality of the plot its name and figure."""
    found = []
    for each in facts["saliency"] if arrays is not None else ():
        name, channels = each["modality"], each["channels"]
        raw, share = arrays[f"{name}_raw"], arrays[f"{name}_share"]
        if name == "patch":
            svg = draw_patch(raw, share, channels, "saliency-patch")
        else:
            svg = draw_series(share, channels, each["first_year"], f"saliency-{name}")
        found.append({"modality": name, "svg": svg})
    return found


def find_drivers(folder: Path) -> dict[str, Any] | None:
    """Return what a run's page shows of its explanation: a chart, the largest losses; None where there is none."""
    if not (folder / FACTS).is_file() or not (folder / PAGE).is_file():
        return None
    tables, facts = read_explanation(folder)
    rows = list_importance(tables["importance"])
    single: Sequence[dict[str, Any]] = [row for row in rows if row["kind"] == "variable"]
    charts = draw_charts(tables["importance"])
    chart = charts["together"] or charts["single"]
    known = [row for row in single if is_number(row["loglik_lost_low"]) and row["loglik_lost_low"] > 0]
    return {"chart": chart, "facts": facts, "most": known[:3], "num_told": len(known), "num_variables": len(single)}
