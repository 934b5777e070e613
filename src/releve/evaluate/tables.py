"""The tables of an evaluation: by survey, by species, and by groups of either."""

# N surveys, S species

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from releve.evaluate.entry import Entry
from releve.evaluate.facts import FoldFacts
from releve.ingest.rows import VISIT
from releve.lists import Lists
from releve.metrics.cells import FREQUENCY_CLASSES, CellScores
from releve.metrics.intervals import bootstrap_interval, percentile_interval, ratio_interval, resample_species_f1
from releve.metrics.ranks import mean_defined
from releve.store.read import Store

DISTANCE_EDGES_KM = (0, 5, 10, 25, 50, 100)
DISTANCE_WORDS = (
    *(f"{a}-{b} km" for a, b in zip(DISTANCE_EDGES_KM[:-1], DISTANCE_EDGES_KM[1:], strict=True)),
    f"> {DISTANCE_EDGES_KM[-1]} km",
)
NUM_NOVELTY_CLASSES = 5
NUM_EXAMPLES = 8


def survey_table(store: Store, rows: NDArray[np.int64], model: Entry, facts: FoldFacts) -> pl.DataFrame:
    """Return one row a scored survey: where and when, its fold, F1, counts, distance and novelty."""
    surveys = store.surveys[rows.tolist()]
    columns = [
        pl.col(name) if name in surveys.columns else pl.lit(None, pl.String).alias(name)
        for name in (*VISIT, "country", "region", "fold")
    ]
    scores = model.sets.per_survey.select("f1", "num_observed", "num_predicted", "num_hit")
    near = pl.DataFrame({"distance_km": facts.distance_km, "novelty": facts.novelty})
    return pl.concat([surveys.select(columns), scores, without_nan(near)], how="horizontal")


def species_table(store: Store, model: Entry, facts: FoldFacts) -> pl.DataFrame:
    """Return one row a species: its frequency, counts, and scores; null where a score is not defined."""
    cells = model.cells
    assert cells is not None
    own = pl.DataFrame(
        {
            "species_index": np.arange(len(store.species_ids)),
            "species_id": store.species_ids,
            **_names(store, np.arange(len(store.species_ids))),
            "num_train": facts.num_train_S,
            "frequency_class": [FREQUENCY_CLASSES[i] for i in facts.class_of_species],
        }
    )
    ranks = pl.DataFrame(
        {
            "species_index": np.arange(len(store.species_ids)),
            "auc": model.ranks.auc_S,
            "average_precision": model.ranks.ap_S,
            "brier": cells.brier_S(),
            "boyce": model.ranks.boyce_S,
            "tss": cells.tss_S(),
        }
    )
    joined = own.join(model.sets.per_species, on="species_index", how="left").join(ranks, on="species_index")
    return without_nan(joined.sort("species_index"))


def frequency_table(
    species: pl.DataFrame, model: Entry, lists: Lists, truth: Lists, blocks: NDArray[np.int64], seed: int
) -> pl.DataFrame:
    """Return the scores of the species of each frequency class.

    Macro F1 is over the species observed among the scored surveys (``num_present``); precision and recall pool the
    class's occurrences. Intervals are over blocks, that of the AUC over species.
    """
    cells = model.cells
    assert cells is not None
    macro = resample_species_f1(lists, truth, len(species), blocks, np.random.default_rng(seed))
    class_of_S = species["frequency_class"].to_numpy()
    rows = []
    for name in FREQUENCY_CLASSES:
        inside = class_of_S == name
        part = species.filter(inside)
        if part.is_empty():
            continue
        present = part.filter(pl.col("num_true") > 0)
        listed, observed = (_num_of_class(side, inside) for side in (lists, truth))
        hits = _num_of_class(_intersection(lists, truth, len(species)), inside)
        seen = inside & np.isfinite(macro).any(axis=0)
        auc = part["auc"].drop_nulls().to_numpy()
        slope, intercept = cells.calibration(name)
        rows.append(
            {"group": name, "num_species": len(part), "num_present": len(present)}
            | {"num_true": int(observed.sum()), "num_predicted": int(listed.sum())}
            | scored("macro_f1", present["f1"].mean(), percentile_interval(macro[:, seen].mean(axis=1)))
            | _ratio("precision", hits, listed, blocks, seed)
            | _ratio("recall", hits, observed, blocks, seed)
            | scored("auc", mean_defined(auc), mean_interval(auc, np.arange(len(auc)), seed))
            | {key: part[key].mean() for key in ("average_precision", "boyce", "tss", "brier")}
            | {"ece": cells.ece(name), "calibration_slope": slope, "calibration_intercept": intercept}
        )
    return without_nan(pl.DataFrame(rows, infer_schema_length=None))


def group_table(
    surveys: pl.DataFrame,
    group_of: pl.Series,
    names: Sequence[str],
    blocks: NDArray[np.int64],
    seed: int,
) -> pl.DataFrame:
    """Return the scores of groups of surveys, each with a 95 % interval over its blocks; empty groups are left out.

    Parameters
    ----------
    surveys
        As :func:`survey_table` gives them.
    group_of
        The group of each survey; null is a group of its own, ``unknown``.
    names
        The groups in the order of the rows.
    blocks
        (N,) block of each survey.
    seed
        Seed of the bootstrap.
    """
    rows = []
    group_of = group_of.cast(pl.String).fill_null("unknown")
    for name in [*names, *(["unknown"] if "unknown" not in names else [])]:
        inside = (group_of == name).to_numpy()
        part, own = surveys.filter(inside), blocks[inside]
        if part.is_empty():
            continue
        observed, listed, hits = (part[key].to_numpy() for key in ("num_observed", "num_predicted", "num_hit"))
        values = {
            "sample_f1": part["f1"].to_numpy(),
            "precision": np.divide(hits, listed, out=np.zeros(len(hits)), where=listed > 0),
            "recall": np.divide(hits, observed, out=np.zeros(len(hits)), where=observed > 0),
            "richness_bias": (listed - observed).astype(float),
        }
        row = {"group": name, "num_surveys": len(part), "num_blocks": len(np.unique(own))}
        row |= {"mean_observed": observed.mean(), "mean_predicted": listed.mean()}
        for key, value_N in values.items():
            row |= scored(key, value_N.mean(), mean_interval(value_N, own, seed))
        rows.append(row | _ratio("micro_f1", 2 * hits, listed + observed, own, seed))
    return without_nan(pl.DataFrame(rows, infer_schema_length=None))


def survey_groups(surveys: pl.DataFrame, blocks: NDArray[np.int64], seed: int) -> dict[str, pl.DataFrame]:
    """Return the tables by country, region, distance to the nearest training plot, and novelty."""
    tables = {}
    for name, column in (("countries", "country"), ("regions", "region")):
        counts = surveys[column].drop_nulls().value_counts().sort(["count", column], descending=[True, False])
        tables[name] = group_table(surveys, surveys[column], counts[column].to_list(), blocks, seed)
    tables["distances"] = group_table(surveys, pl.Series(distance_classes(surveys)), DISTANCE_WORDS, blocks, seed)
    known = surveys["novelty"].drop_nulls().to_numpy()
    if len(known):
        shares = np.linspace(0, 1, NUM_NOVELTY_CLASSES + 1)
        words = [f"{100 * a:.0f}-{100 * b:.0f} %" for a, b in zip(shares[:-1], shares[1:], strict=True)]
        edges = np.quantile(known, shares).tolist()
        table = group_table(
            surveys, _classes(surveys["novelty"], [-np.inf, *edges[1:-1], np.inf], words), words, blocks, seed
        )
        ranges = pl.DataFrame({"group": words, "novelty_from": edges[:-1], "novelty_to": edges[1:]})
        tables["novelties"] = table.join(ranges, on="group", how="left", maintain_order="left")
    else:
        tables["novelties"] = tables["distances"].clear()
    return tables


def distance_classes(surveys: pl.DataFrame) -> NDArray:
    """Return the words of each survey's class of distance to the nearest training plot."""
    edges = [*DISTANCE_EDGES_KM, np.inf]
    return _classes(surveys["distance_km"], edges, DISTANCE_WORDS).fill_null("unknown").to_numpy()


def cell_tables(cells: CellScores) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return reliability and calibration, for all species and by frequency class."""
    reliability, calibration = [], []
    for name in ("all", *cells.classes):
        table = cells.reliability(name)
        if table.is_empty():
            continue
        reliability.append(table.select(pl.lit(name).alias("prevalence_class"), pl.all()))
        slope, intercept = cells.calibration(name)
        calibration.append(
            {
                "prevalence_class": name,
                "num_species": int((cells.class_of_species == cells.classes.index(name)).sum())
                if name != "all"
                else len(cells.class_of_species),
                "num_cells": int(table["num_cells"].sum()),
                "slope": slope,
                "intercept": intercept,
                "ece": cells.ece(name),
                "brier": cells.brier(name),
            }
        )
    return pl.concat(reliability), without_nan(pl.DataFrame(calibration, infer_schema_length=None))


def example_table(
    surveys: pl.DataFrame, store: Store, probs: torch.Tensor | NDArray, lists: Lists, truth: Lists
) -> pl.DataFrame:
    """Return all species predicted or observed in about 8 surveys, from the best F1 to the worst in equal steps."""
    order = np.argsort(-surveys["f1"].to_numpy(), kind="stable")
    picked = order[np.unique(np.linspace(0, len(order) - 1, NUM_EXAMPLES).round().astype(int))]
    parts = []
    for i in picked.tolist():
        predicted, observed = lists.row(i), truth.row(i)
        both = np.union1d(predicted, observed)
        both = both[both < len(store.species_ids)]
        part = pl.DataFrame(
            {
                "species_id": store.species_ids[both],
                **_names(store, both),
                "probability": np.asarray(probs[i])[both].astype(np.float64),
                "is_observed": np.isin(both, observed),
                "is_predicted": np.isin(both, predicted),
            }
        ).sort("probability", descending=True, maintain_order=True)
        parts.append(
            part.select(pl.lit(surveys["survey_id"][i], surveys["survey_id"].dtype).alias("survey_id"), pl.all())
        )
    return pl.concat(parts)


def _names(store: Store, species: NDArray[np.integer]) -> dict[str, pl.Series]:
    """Return the column of the names of some species, of none too, if the store's have any."""
    names = store.species_names
    return {"species": pl.Series([names[at] for at in species.tolist()], dtype=pl.String)} if names else {}


def _classes(values: pl.Series, edges: Sequence[float], names: Sequence[str]) -> pl.Series:
    """Return the name of the half-open class [a, b) of each value; null for null."""
    at = np.searchsorted(np.asarray(edges), values.fill_null(0.0).to_numpy(), side="right") - 1
    found = pl.Series([names[i] for i in np.clip(at, 0, len(names) - 1)], dtype=pl.String)
    return pl.select(pl.when(values.is_not_null()).then(found)).to_series()


def _num_of_class(lists: Lists, is_inside_S: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many species of a class each survey's list holds."""
    known = lists.indices < len(is_inside_S)
    inside = known & is_inside_S[np.where(known, lists.indices, 0)]
    return np.bincount(lists.surveys()[inside], minlength=lists.num_surveys)


def _intersection(a: Lists, b: Lists, num_species: int) -> Lists:
    surveys, species = a.to_csr(num_species).multiply(b.to_csr(num_species)).nonzero()
    return Lists.from_pairs(surveys, species, a.num_surveys)


def _ratio(
    name: str, top: NDArray[np.int64], bottom: NDArray[np.int64], blocks: NDArray[np.int64], seed: int
) -> dict[str, float | None]:
    if not bottom.sum():
        return scored(name, None, (float("nan"), float("nan")))
    interval = ratio_interval(top, bottom, blocks, np.random.default_rng(seed))
    return scored(name, top.sum() / bottom.sum(), interval)


def mean_interval(values: NDArray, blocks: NDArray, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of a mean by a bootstrap over blocks; NaN for no values."""
    if not len(values):
        return float("nan"), float("nan")
    return bootstrap_interval(values, blocks, np.random.default_rng(seed))


def scored(name: str, value: object, interval: tuple[float, float]) -> dict[str, float | None]:
    """Return a score and its interval, as columns of a table."""
    number = None if value is None else float(value)  # type: ignore[arg-type]
    return {name: number, f"{name}_low": interval[0], f"{name}_high": interval[1]}


def without_nan(table: pl.DataFrame) -> pl.DataFrame:
    """Return the table with null for what is not defined, as everywhere in tables."""
    return table.with_columns(pl.col(pl.Float64, pl.Float32).fill_nan(None))
