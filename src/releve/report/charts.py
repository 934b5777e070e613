"""The figures of a run's page, from its facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from releve.report.facts import Facts, read_kept_epoch
from releve.report.figures import (
    ACCENT,
    SOFT,
    Dots,
    category_colours,
    draw_curves,
    draw_dots,
    draw_reliability,
    draw_reliability_by,
)
from releve.report.maps import Layer, draw_map
from releve.report.page import format_score


def draw_scores(scores: Sequence[dict[str, Any]], headline: str = "sample_f1") -> Markup:
    """Return the chart of all models' scores: sF1 with intervals, or AUC."""
    dots = [
        Dots(
            row["model"],
            row[headline],
            low=row.get(f"{headline}_low"),
            high=row.get(f"{headline}_high"),
            colour=ACCENT if row["is_model"] else SOFT,
        )
        for row in scores
        if row[headline] is not None
    ]
    words = "; ".join(f"{dot.label} {format_score(dot.mean)}" for dot in dots)
    if headline == "auc_macro":
        return draw_dots(dots, "scores", "AUC on held-out blocks", f"AUC by model: {words}")
    return draw_dots(dots, "scores", "sF1 on held-out blocks, with 95 % interval", f"sF1 by model: {words}")


def draw_members(facts: Facts) -> Markup | None:
    """Return the learning curves of the members that left any, those of one run in one colour; None if none did."""
    members = []
    for part, member, logs in facts.curves:
        label = "all rows" if member.fold is None else f"fold {member.fold}"
        label += f", seed {member.seed}" if part.config.train.kinds.count("network") > 1 else ""
        kept = read_kept_epoch(part.run.path / member.name)
        members.append({"label": part.name if facts.parts else label, "logs": logs, "kept": kept})
    return draw_curves(members, "curves", f"Learning curves of {len(members)} networks") if members else None


def draw_folds(facts: Facts) -> Markup | None:
    """Return a map of the held-out plots by fold, over the rows that were trained on but never held out."""
    store, surveys = facts.store, facts.surveys
    folds = sorted(surveys["fold"].unique().to_list())
    other = ~(np.isin(store.folds, folds) & store.is_scored)
    layers = []
    if other.any():
        layers.append(Layer(store.lon[other], store.lat[other], "#c9cfca", label="never held out", size=0.6))
    for fold, colour in zip(folds, category_colours(len(folds)), strict=True):
        rows = surveys.filter(pl.col("fold") == fold)
        layers.append(Layer(rows["lon"], rows["lat"], colour, label=f"fold {fold}"))
    return draw_map(layers, "folds", f"Map of {surveys.height} held-out plots coloured by fold")


def draw_quality(surveys: pl.DataFrame) -> Markup | None:
    """Return a map of the held-out plots by the F1 of their lists."""
    return draw_map(
        [Layer(surveys["lon"], surveys["lat"], values=surveys["f1"].cast(pl.Float64).fill_null(float("nan")))],
        "quality",
        f"Map of {surveys.height} held-out plots coloured by F1",
        colour_label="F1 of the plot's list",
    )


def draw_bins(reliability: pl.DataFrame | None) -> Markup | None:
    """Return the reliability figure over all species; None without bins."""
    if reliability is None:
        return None
    if "prevalence_class" in reliability.columns:
        reliability = reliability.filter(pl.col("prevalence_class") == "all")
    if reliability.is_empty():
        return None
    return draw_reliability(
        reliability["mean_prob"],
        reliability["observed_share"],
        reliability["num_cells"],
        "reliability",
        "Predicted probability against observed share of plots",
    )


def draw_bins_by_class(reliability: pl.DataFrame | None) -> Markup | None:
    """Return the reliability figure with a line for each class of species; None without classes."""
    if reliability is None or "prevalence_class" not in reliability.columns:
        return None
    classes = reliability.filter(pl.col("prevalence_class") != "all")
    if classes.is_empty():
        return None
    lines = [
        (str(name), group["mean_prob"], group["observed_share"], group["num_cells"])
        for (name,), group in classes.group_by("prevalence_class", maintain_order=True)
    ]
    return draw_reliability_by(
        lines, "classes", "Predicted probability against observed share of plots by class of species"
    )
