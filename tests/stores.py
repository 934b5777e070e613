"""A tiny store in memory: several species a survey, modalities that some surveys lack, folds side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from releve.lists import Lists
from releve.store.read import Store, StoredArray
from releve.store.schema import STORE_FORMAT, ArraySpec, Manifest

COVARIATES = ("warmth", "rain", "soil", "cover")
SPECS = {
    "covariates": {"dtype": "float32", "shape": (4,), "fill": None, "channels": COVARIATES, "categorical": ("cover",)},
    "landsat": {"dtype": "uint8", "shape": (2, 5, 4), "fill": 255, "channels": ("red", "nir"), "first_year": 2016},
    "climate": {"dtype": "int16", "shape": (2, 4, 12), "fill": -1, "channels": ("rain", "heat"), "first_year": 2016},
    "patch": {"dtype": "uint8", "shape": (4, 32, 32), "fill": None, "channels": ("red", "green", "blue", "nir")},
}


def make_store(num_surveys: int = 60, *, num_folds: int = 3, seed: int = 0, missing: float = 0.25) -> Store:
    """Return a store whose species follow warmth (even ones like it, odd ones shun it) and whose row order is mixed.

    Fold f lies in the longitudes from 2f to 2f + 2 degrees; the surveys of the next fold may be near.
    """
    rng = np.random.default_rng(seed)
    folds = rng.permutation(np.arange(num_surveys) % num_folds)
    warmth = rng.normal(size=num_surveys)
    surveys = pl.DataFrame(
        {
            "survey_id": rng.permutation(num_surveys) + 1000,
            "lon": 2.0 * folds + rng.uniform(0, 2, num_surveys),
            "lat": rng.uniform(45, 47, num_surveys),
            "year": rng.integers(2017, 2021, num_surveys).astype(np.int32),
            "month": pl.Series(rng.integers(0, 13, num_surveys), dtype=pl.Int32).replace(0, None),
            "area_m2": rng.choice([25.0, 100.0], num_surveys),
            "uncertainty_m": rng.uniform(0, 50, num_surveys),
            "country": rng.choice(["France", "Italy"], num_surveys),
            "region": pl.Series(np.where(rng.random(num_surveys) < 0.5, "ALPINE", "")).replace("", None),
            "fold": folds.astype(np.int8),
        }
    )
    covariates = np.column_stack(
        [warmth, rng.gamma(2, 100, num_surveys), rng.normal(size=num_surveys), rng.integers(0, 3, num_surveys)]
    ).astype(np.float32)
    covariates[rng.random(covariates.shape) < 0.05] = np.nan
    values = {"covariates": covariates}
    for name, top in (("landsat", 250), ("climate", 3000), ("patch", 255)):
        values[name] = rng.integers(0, top, (num_surveys, *SPECS[name]["shape"])).astype(SPECS[name]["dtype"])
        if SPECS[name]["fill"] is not None:
            values[name][rng.random(values[name].shape) < 0.1] = SPECS[name]["fill"]
    likes = np.where(np.arange(8) % 2 == 0, 3.0, -3.0)
    chances = 1 / (1 + np.exp(-(likes * np.nan_to_num(warmth)[:, None] - 0.5 * np.arange(8) / 2)))
    sets = [np.flatnonzero(row).tolist() or [0] for row in rng.random(chances.shape) < chances]
    having = {name: rng.permutation(num_surveys)[: round((1 - missing) * num_surveys)] for name in SPECS}
    return store_of(surveys, sets, values, having, num_species=8)


def make_mixed_store(num_plots: int = 120, num_records: int = 180, *, seed: int = 0) -> Store:
    """Return a store of plots and, after them, presence-only rows: fewer species a row, publishers, effort, trust."""
    store = make_store(num_plots + num_records, seed=seed)
    rng = np.random.default_rng(seed + 1)
    is_plot = np.arange(len(store)) < num_plots
    sets = [store.labels.row(i) for i in range(len(store))]
    sets = [
        row if plot else rng.permutation(row)[: 1 + i % 3]
        for i, (row, plot) in enumerate(zip(sets, is_plot, strict=True))
    ]
    effort = rng.integers(1, 20, len(store))
    columns = {
        "split": np.where(is_plot, "train", "po"),
        "publisher": np.where(is_plot, None, rng.choice(["A", "B"], len(store))),
        "num_records": np.where(is_plot, None, effort),
        "log1p_cell_records": np.where(is_plot, None, np.log1p(effort * 7.0)),
        "trust": np.where(is_plot, None, rng.uniform(0, 0.8, len(store))),
    }
    types = {
        "split": pl.String,
        "publisher": pl.String,
        "num_records": pl.Int64,
        "log1p_cell_records": pl.Float64,
        "trust": pl.Float64,
    }
    surveys = store.surveys.with_columns(
        pl.Series(name, values.tolist(), types[name]) for name, values in columns.items()
    )
    recipe = {"data": {"records": "po"}}
    manifest = store.manifest.model_copy(update={"recipe": recipe})
    return replace(store, surveys=surveys, labels=Lists.from_rows(sets), manifest=manifest)


def store_of(
    surveys: pl.DataFrame,
    sets: list[list[int]],
    values: dict[str, np.ndarray],
    having: dict[str, np.ndarray],
    *,
    num_species: int,
) -> Store:
    """Return a store of one value a survey; modality ``name`` is kept for ``having[name]``, in that order."""
    arrays = {}
    for name, table in values.items():
        kept = having.get(name, np.arange(len(surveys)))
        row_of = np.full(len(surveys), -1, np.int64)
        row_of[kept] = np.arange(len(kept))
        spec = ArraySpec(name=name, file="", num_rows=len(kept), **SPECS[name] | {"shape": table.shape[1:]})
        arrays[name] = StoredArray(spec, table[kept], row_of)
    species = pl.DataFrame({"species_index": np.arange(num_species), "species_id": 500 + 3 * np.arange(num_species)})
    manifest = Manifest(
        format=STORE_FORMAT,
        releve="test",
        release="test",
        origin="test",
        recipe={},
        fingerprint="",
        seed=0,
        num_surveys=len(surveys),
        num_species=num_species,
        num_folds=int(surveys["fold"].max()) + 1,
        arrays={name: array.spec for name, array in arrays.items()},
        dropped={},
        problems=[],
        leakage=[],
        files={},
    )
    return Store(Path("memory"), manifest, surveys, species, Lists.from_rows(sets), arrays)
