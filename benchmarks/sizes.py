"""A store of the official sizes, filled at random: what training costs does not depend on what the numbers are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from releve.lists import Lists
from releve.store.read import Store, StoredArray
from releve.store.schema import STORE_FORMAT, ArraySpec, Manifest

NUM_PLOTS, NUM_RECORDS, NUM_TEST = 88_987, 3_845_533, 4_716
"""Plots, presence-only surveys and test plots of GLC24."""
PLOT_SPECIES, ALL_SPECIES = 5_016, 11_255
"""Species of the plots, and ids of the release."""
SPECS: dict[str, dict] = {
    "covariates": {"dtype": "float32", "shape": (46,), "fill": None},
    "landsat": {"dtype": "int16", "shape": (6, 21, 4), "fill": -1, "first_year": 2000},
    "climate": {"dtype": "uint16", "shape": (4, 19, 12), "fill": 65535, "first_year": 2000},
    "patch": {"dtype": "uint8", "shape": (4, 128, 128), "fill": None},
}
BLOCK = 20_000


def make_store(
    folder: Path, num_plots: int, num_records: int, num_species: int, modalities: tuple[str, ...], *, seed: int = 0
) -> Store:
    """Return a store whose arrays are memory maps of files in a folder: plots, then presence-only rows.

    A plot has 17 species on average (5 to 50), a presence-only row 1.3; a few species are common, most are rare.
    """
    rng = np.random.default_rng(seed)
    number = num_plots + num_records
    share = 1 / np.arange(1, num_species + 1) ** 0.9
    order = np.cumsum(rng.permutation(share / share.sum()))
    is_plot = np.arange(number) < num_plots
    lengths = np.where(is_plot, np.clip(rng.gamma(3, 6, number), 5, 50), rng.geometric(0.75, number)).astype(int)
    species = np.minimum(np.searchsorted(order, rng.random(lengths.sum())), num_species - 1)
    labels = Lists.from_pairs(np.repeat(np.arange(number), lengths), species, number)
    surveys = pl.DataFrame(
        {
            "survey_id": np.arange(number) + 1,
            "lon": rng.uniform(-10, 35, number),
            "lat": rng.uniform(35, 70, number),
            "year": rng.integers(2017, 2021, number).astype(np.int32),
            "month": rng.integers(1, 13, number).astype(np.int32),
            "area_m2": rng.choice([25.0, 100.0], number),
            "uncertainty_m": rng.uniform(0, 50, number),
            "country": rng.choice(["France", "Italy", "Denmark"], number),
            "region": rng.choice(["ALPINE", "ATLANTIC"], number),
            "split": np.where(is_plot, "train", "po"),
            "fold": (np.arange(number) % 10).astype(np.int8),
        }
    )
    arrays = {}
    for name in modalities:
        spec = ArraySpec(name=name, file=f"{name}.npy", num_rows=number, channels=channels(name), **SPECS[name])
        values = np.lib.format.open_memmap(folder / spec.file, "w+", spec.dtype, (number, *spec.shape))
        for first in range(0, number, BLOCK):
            some = values[first : first + BLOCK]
            some[:] = rng.normal(size=some.shape) if name == "covariates" else rng.integers(0, 250, some.shape)
        values.flush()
        mapped = np.load(folder / spec.file, mmap_mode="r")
        arrays[name] = StoredArray(spec, mapped, np.arange(number))
    table = pl.DataFrame({"species_index": np.arange(num_species), "species_id": np.arange(num_species)})
    manifest = Manifest(
        format=STORE_FORMAT,
        releve="benchmark",
        release="random",
        origin="random numbers",
        recipe={"data": {"records": "po"}} if num_records else {},
        fingerprint="",
        seed=seed,
        num_surveys=number,
        num_species=num_species,
        num_folds=10,
        arrays={name: array.spec for name, array in arrays.items()},
        dropped={},
        problems=[],
        leakage=[],
        files={},
    )
    return Store(folder, manifest, surveys, table, labels, arrays)


def channels(name: str) -> tuple[str, ...]:
    """Return a name for each channel."""
    return tuple(f"{name}{i}" for i in range(SPECS[name]["shape"][0]))
