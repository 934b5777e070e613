"""Places of records for tests of the kinds of member that learn from them."""

from __future__ import annotations

import numpy as np
import polars as pl

from releve.data.gather import Gatherer
from releve.data.statistics import Statistics, measure_statistics
from releve.store.read import Store


def make_places(num: int, num_random: int, *, num_species: int = 3) -> Store:
    """Return places of records of species 0 (where wet > 0), 1 (where not), others by turns, and random places."""
    rng = np.random.default_rng(4)
    wet_N = rng.standard_normal(num + num_random)
    sets = [[int(wet <= 0), *([2 + i % (num_species - 2)] if i % 3 == 0 else [])] for i, wet in enumerate(wet_N[:num])]
    table = pl.DataFrame(
        {
            "survey_id": np.arange(len(wet_N)),
            "lon": rng.random(len(wet_N)),
            "lat": rng.random(len(wet_N)),
            "split": ["po"] * len(wet_N),
        }
    )
    pairs = [(row, species) for row, own in enumerate(sets) for species in own]
    labels = pl.DataFrame(pairs, schema={"row": pl.Int64, "species_id": pl.Int64}, orient="row")
    covariates = pl.DataFrame({"wet": wet_N, "soil": np.arange(len(wet_N)) % 2})
    return Store.from_tables(table, labels, covariates, categorical=("soil",), records="po", origin="test")


def look_at(store: Store, names: tuple[str, ...]) -> tuple[Gatherer, Statistics]:
    """Return what gathers a store's tables, and their statistics."""
    rows = np.arange(len(store))
    statistics = measure_statistics(store, rows, names, rng=np.random.default_rng(0))
    return Gatherer(store, names, statistics.categories), statistics
