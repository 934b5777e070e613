"""The page of the demo: what a model finds in a virtual world whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from releve.files import write_text
from releve.report.figures import ACCENT, SOFT, WARM, Dots, draw_dots
from releve.report.maps import Layer, draw_map
from releve.report.page import format_score, is_number, render_page

COLOURS = {"oracle": WARM, "fused": ACCENT, "modality": "#2c6f9b", "reference": SOFT}
"""Kinds of model, in the order of the chart, and their colours; the style sheet has the same."""
SCORES = {"sample_f1": "sF1", "macro_f1": "macro F1", "auc_macro": "AUC"}


@dataclass(frozen=True, eq=False)
class DemoResult:
    """What the demo found.

    Parameters
    ----------
    title
        Heading of the page.
    seconds
        Time the whole demo took.
    seeds
        Seeds of the models.
    facts
        Counts of the virtual world, in words and ready to show.
    scores
        One row a model and seed, on test plots with hidden truth: ``model``, ``kind`` (``fused``, ``modality``,
        ``reference``, ``oracle``), ``seed``, ``sample_f1``, and ``macro_f1``, ``auc_macro``, which may be null.
    plots
        ``lon, lat, set`` (``train`` or ``test``), ``country``, and ``f1`` of the fused model on test plots.
    examples
        A few test plots: ``survey_id, country, predicted, observed`` (lists of names, or names in one text with
        commas or blanks between them), ``f1``.
    runtime
        Seconds of each step.
    """

    title: str
    seconds: float
    seeds: tuple[int, ...]
    facts: dict[str, str]
    scores: pl.DataFrame
    plots: pl.DataFrame
    examples: pl.DataFrame
    runtime: dict[str, float]


def write_demo_report(demo: DemoResult, path: Path) -> None:
    """Write the demo's page: one HTML file that needs nothing else."""
    rows = summarise_models(demo.scores)
    test = demo.plots.filter(pl.col("set") == "test")
    page = render_page(
        "demo.html.j2",
        title=demo.title,
        demo=demo,
        rows=rows,
        headline=find_headline(rows),
        num_test=test.height,
        num_train=demo.plots.height - test.height,
        num_scored=test["f1"].cast(pl.Float64).is_finite().sum(),
        chart=draw_models(rows),
        maps=draw_plots(demo.plots),
        examples=[compare_lists(row) for row in demo.examples.to_dicts()],
    )
    write_text(path, page)


def summarise_models(scores: pl.DataFrame) -> list[dict[str, Any]]:
    """Return one row a model: ``model, kind, num_seeds, points`` and for each score its mean, low and high.

    Kinds come in the order of ``COLOURS``, and the best model of a kind first. Low and high are the lowest and the
    highest seed, and None where one seed has the score.
    """
    rows = []
    for (model, kind), group in scores.group_by("model", "kind", maintain_order=True):
        row: dict[str, Any] = {"model": str(model), "kind": str(kind), "num_seeds": group["seed"].n_unique()}
        for name in SCORES:
            values = [value for value in group[name].to_list() if is_number(value)] if name in group.columns else []
            row[name] = sum(values) / len(values) if values else None
            row[f"{name}_low"], row[f"{name}_high"] = (min(values), max(values)) if len(values) > 1 else (None, None)
            if name == "sample_f1":
                row["points"] = tuple(values)
        rows.append(row)
    order = list(COLOURS)
    rank = {kind: i for i, kind in enumerate(order)}
    return sorted(rows, key=lambda row: (rank.get(row["kind"], len(order)), -(row["sample_f1"] or 0.0)))


def find_headline(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the best model of each kind that has a score."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["sample_f1"] is not None:
            best.setdefault(row["kind"], row)
    return best


def draw_models(rows: Sequence[dict[str, Any]]) -> Markup | None:
    """Return the chart of all models: a small dot a seed and a large one at the mean."""
    dots = [
        Dots(
            row["model"],
            row["sample_f1"],
            points=row["points"] if row["num_seeds"] > 1 else (),
            low=row["sample_f1_low"],
            high=row["sample_f1_high"],
            colour=COLOURS.get(row["kind"], SOFT),
            hollow=row["kind"] == "oracle",
        )
        for row in rows
        if row["sample_f1"] is not None
    ]
    if not dots:
        return None
    words = "; ".join(f"{dot.label} {format_score(dot.mean)}" for dot in dots)
    return draw_dots(dots, "models", "sF1 on test plots", f"sF1 by model: {words}")


def draw_plots(plots: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the maps: training beside test plots, and test plots by F1."""
    train = plots.filter(pl.col("set") == "train")
    test = plots.filter(pl.col("set") == "test")
    sets = draw_map(
        [
            Layer(train["lon"], train["lat"], "#b4bbb6", label="training"),
            Layer(test["lon"], test["lat"], ACCENT, label="test", size=1.2),
        ],
        "sets",
        f"Map of {train.height} training and {test.height} test plots",
    )
    scored = draw_map(
        [
            Layer(train["lon"], train["lat"], "#cfd4cf", size=0.6),
            Layer(test["lon"], test["lat"], values=test["f1"].cast(pl.Float64).fill_null(float("nan"))),
        ],
        "quality",
        "Map of test plots coloured by F1",
        colour_label="F1 of the plot's list",
    )
    return [{"name": name, "svg": svg} for name, svg in (("sets", sets), ("quality", scored)) if svg is not None]


def compare_lists(row: dict[str, Any]) -> dict[str, Any]:
    """Return an example with its species sorted into found, missed and wrongly predicted.

    Examples
    --------
    >>> shown = compare_lists({"predicted": ["x", "y"], "observed": ["y", "z"]})
    >>> shown["hit"], shown["missed"], shown["false"]
    (['y'], ['z'], ['x'])
    """
    predicted, observed = split_names(row["predicted"]), split_names(row["observed"])
    return row | {
        "hit": [name for name in predicted if name in set(observed)],
        "missed": [name for name in observed if name not in set(predicted)],
        "false": [name for name in predicted if name not in set(observed)],
    }


def split_names(names: str | Sequence[str] | None) -> list[str]:
    """Return the names in a list, or in a text with commas or, without any, blanks between them.

    Examples
    --------
    >>> split_names("Poa annua, Poa trivialis"), split_names("12 40"), split_names(["a b"]), split_names(None)
    (['Poa annua', 'Poa trivialis'], ['12', '40'], ['a b'], [])
    """
    if not isinstance(names, str):
        return [str(name) for name in names or ()]
    parts = names.split(",") if "," in names else names.split()
    return [part.strip() for part in parts if part.strip()]
