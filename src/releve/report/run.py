"""The page of a run: what it was trained on, how good it is beside reference models, and where it fails."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from releve.evaluate import BOOTSTRAP_BLOCK_KM, Evaluation
from releve.files import write_text
from releve.geo import block_ids, equal_area_crs, project
from releve.metrics import bootstrap_interval
from releve.report.figures import (
    ACCENT,
    SOFT,
    Dots,
    category_colours,
    draw_curves,
    draw_dots,
    draw_reliability,
    draw_richness,
)
from releve.report.maps import Layer, draw_map
from releve.report.page import format_score, is_number, render_page
from releve.runs import Run

MIN_PRESENCES = 10
"""Held-out presences below which a species' score says too little to be listed."""
NUM_LISTED = 15
MAX_DROPPED_ROWS = 40
MAX_PROBLEMS = 8


def write_run_report(run: Run, evaluation: Evaluation, path: Path) -> None:
    """Write the run's page: one HTML file that needs nothing else.

    Parameters
    ----------
    run
        A trained run; its manifest, ``run.json`` and the members' ``metrics.jsonl`` are read.
    evaluation
        Its scores on held-out rows; the first entry is the run itself.
    path
        The page to write.
    """
    surveys = evaluation.surveys
    scores = compare_models(evaluation, run.seed)
    model = next(row for row in scores if row["is_model"])
    others = [row for row in scores if not row["is_model"]]
    rival = max(others, key=lambda row: row["sample_f1"], default=None)
    best, worst = pick_species(evaluation.species)
    richness, num_beyond = draw_richness(
        surveys["num_observed"], surveys["num_predicted"], "richness", "Observed against predicted number of species"
    )
    page = render_page(
        "run.html.j2",
        title=run.config.title or run.path.name or "Run",
        run=run,
        record=read_record(run.path),
        manifest=run.store.manifest,
        modalities=count_modalities(run),
        dropped=list_dropped(run.store.manifest.dropped),
        max_problems=MAX_PROBLEMS,
        model=model,
        scores=scores,
        rival=rival,
        verdict=describe_gain(rival) if rival else "",
        num_surveys=surveys.height,
        num_species_seen=evaluation.species.filter(pl.col("num_true") > 0).height,
        block_km=BOOTSTRAP_BLOCK_KM,
        chart=draw_scores(scores),
        curves=draw_members(run),
        folds_map=draw_folds(run, surveys),
        f1_map=draw_map(
            [Layer(surveys["lon"], surveys["lat"], values=surveys["f1"])],
            "quality",
            f"Map of {surveys.height} held-out plots coloured by F1",
            colour_label="F1 of the plot's list",
        ),
        reliability=draw_bins(evaluation.reliability),
        num_cells=int(evaluation.reliability["num_cells"].sum()),
        richness=richness,
        num_beyond=num_beyond,
        f1_quartiles=[surveys["f1"].quantile(q, "linear") for q in (0.25, 0.5, 0.75)],
        num_zero=surveys.filter(pl.col("f1") == 0).height,
        best=best,
        worst=worst,
        min_presences=MIN_PRESENCES,
        config_text=write_toml(run.config.model_dump(mode="json")),
    )
    write_text(path, page)


def compare_models(evaluation: Evaluation, seed: int) -> list[dict[str, Any]]:
    """Return one row a model, the best first, with the paired difference of the run's sF1 to each reference model.

    The difference and its 95 % interval come from the same plots and the same resampled blocks, so that what
    makes a plot hard for every model cancels out.
    """
    model, *others = evaluation.entries
    lon, lat = evaluation.surveys["lon"].to_numpy(), evaluation.surveys["lat"].to_numpy()
    blocks = block_ids(project(lon, lat, equal_area_crs(lon, lat)), BOOTSTRAP_BLOCK_KM)
    rows: list[dict[str, Any]] = [model.row() | {"is_model": True, "num_scored": model.ranks.num_species_scored}]
    for entry in others:
        gain = model.sets.per_survey_f1 - entry.sets.per_survey_f1
        low, high = bootstrap_interval(gain, blocks, np.random.default_rng(seed))
        rows.append(
            entry.row()
            | {"is_model": False, "num_scored": entry.ranks.num_species_scored}
            | {"gain": float(gain.mean()), "gain_low": low, "gain_high": high}
        )
    return sorted(rows, key=lambda row: -row["sample_f1"])


def draw_scores(scores: Sequence[dict[str, Any]]) -> Markup:
    """Return the chart of all models' sF1 with intervals."""
    dots = [
        Dots(
            row["model"],
            row["sample_f1"],
            low=row["sample_f1_low"],
            high=row["sample_f1_high"],
            colour=ACCENT if row["is_model"] else SOFT,
        )
        for row in scores
    ]
    words = "; ".join(f"{dot.label} {format_score(dot.mean)}" for dot in dots)
    return draw_dots(dots, "scores", "sF1 on held-out blocks, with 95 % interval", f"sF1 by model: {words}")


def draw_members(run: Run) -> Markup | None:
    """Return the learning curves of the members that left any; None if none did."""
    several = len({member.fold for member in run.members}) < len(run.members)
    members = []
    for member in run.members:
        logs = read_logs(run.path / member.name / "metrics.jsonl")
        label = f"fold {member.fold}" + (f", seed {member.seed}" if several else "")
        if logs:
            members.append({"label": label, "logs": logs})
    return draw_curves(members, "curves", f"Learning curves of {len(members)} networks") if members else None


def draw_folds(run: Run, surveys: pl.DataFrame) -> Markup | None:
    """Return a map of the held-out plots by fold, over those that were trained on but never held out."""
    folds = sorted(surveys["fold"].unique().to_list())
    other = ~np.isin(run.store.folds, folds)
    layers = []
    if other.any():
        layers.append(Layer(run.store.lon[other], run.store.lat[other], "#c9cfca", label="never held out"))
    for fold, colour in zip(folds, category_colours(len(folds)), strict=True):
        rows = surveys.filter(pl.col("fold") == fold)
        layers.append(Layer(rows["lon"], rows["lat"], colour, label=f"fold {fold}"))
    return draw_map(layers, "folds", f"Map of {surveys.height} held-out plots coloured by fold")


def draw_bins(reliability: pl.DataFrame) -> Markup | None:
    """Return the reliability figure; None without bins."""
    if reliability.is_empty():
        return None
    return draw_reliability(
        reliability["mean_prob"],
        reliability["observed_share"],
        reliability["num_cells"],
        "reliability",
        "Predicted probability against observed share of plots",
    )


def pick_species(species: pl.DataFrame) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the best and the worst species by F1 among those with enough presences, never one in both.

    Ties go by AUC, then by the number of presences. The worst species come worst first.
    """
    enough = species.filter(pl.col("num_true") >= MIN_PRESENCES, pl.col("f1").is_not_null())
    enough = enough.with_columns(auc=pl.col("auc").cast(pl.Float64).fill_nan(None))
    order = enough.sort("f1", "auc", "num_true", descending=True, nulls_last=True).to_dicts()
    num_best = min(NUM_LISTED, (len(order) + 1) // 2)
    num_worst = min(NUM_LISTED, len(order) - num_best)
    return order[:num_best], order[::-1][:num_worst]


def count_modalities(run: Run) -> list[dict[str, Any]]:
    """Return for each modality how many surveys have it, its shape, and whether the model looks at it."""
    store, used = run.store, run.config.model.modalities
    rows = [
        {
            "name": name,
            "num_surveys": int((array.row_of >= 0).sum()),
            "shape": " × ".join(str(size) for size in array.spec.shape),
            "used": name in used,
        }
        for name, array in store.arrays.items()
    ]
    stored = {row["name"] for row in rows}
    for name in used:
        if name in ("survey", "location"):
            rows.append({"name": name, "num_surveys": len(store.lon), "shape": "", "used": True})
        elif name not in stored:
            rows.append({"name": name, "num_surveys": 0, "shape": "", "used": True})
    return rows


def list_dropped(dropped: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Return the counts by split and reason, the largest first, and how many reasons were left off."""
    rows: list[dict[str, Any]] = [
        {"where": where, "reason": reason, "count": count}
        for where, reasons in dropped.items()
        for reason, count in reasons.items()
        if count
    ]
    rows.sort(key=lambda row: -row["count"])
    return {"rows": rows[:MAX_DROPPED_ROWS], "num_more": max(0, len(rows) - MAX_DROPPED_ROWS)}


def read_record(folder: Path) -> dict[str, Any]:
    """Return the run's ``run.json``, or nothing if there is none."""
    file = folder / "run.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def read_logs(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a member's ``metrics.jsonl``, or none if there is no such file."""
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def write_toml(config: dict[str, Any]) -> str:
    """Return a nested configuration as TOML; what is None is left out, as in a recipe.

    Examples
    --------
    >>> print(write_toml({"title": "a", "train": {"epochs": 5, "bands": None, "parts": ["x"], "ema": True}}))
    title = "a"
    <BLANKLINE>
    [train]
    epochs = 5
    parts = ["x"]
    ema = true
    """
    plain = {key: value for key, value in config.items() if not isinstance(value, dict)}
    sections = {key: value for key, value in config.items() if isinstance(value, dict)}
    blocks = [_assignments(plain)]
    blocks += [f"[{name}]\n{_assignments(values)}".rstrip() for name, values in sections.items()]
    return "\n\n".join(block for block in blocks if block)


def _assignments(values: dict[str, Any]) -> str:
    # JSON writes text, numbers, booleans and lists of them as TOML does.
    return "\n".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value is not None
    )


def describe_gain(row: dict[str, Any]) -> str:
    """Return in one word what a paired difference says: ``better``, ``worse``, ``close`` or ``unknown``."""
    if not (is_number(row.get("gain_low")) and is_number(row.get("gain_high"))):
        return "unknown"
    if row["gain_low"] > 0:
        return "better"
    return "worse" if row["gain_high"] < 0 else "close"
