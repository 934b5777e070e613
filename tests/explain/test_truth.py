"""In a world whose truth is known: importance finds what plants feel, and curves are those of the truth."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from releve.explain.importance import measure_importance
from releve.explain.response import measure_responses
from releve.explain.variables import find_variable, list_variables
from releve.geo import block_ids
from releve.runs.folder import Run
from releve.simulate.config import SimulateConfig
from releve.simulate.species import Species, make_features, make_species, true_probabilities
from releve.simulate.surveys import (
    LATENTS,
    YEARS,
    add_yearly_latents,
    draw_presences,
    make_places,
    sample_landscape,
    visit_features,
)
from releve.simulate.world import HEIGHT_DEG, SOUTH, WEST, World, make_world
from releve.store.read import Store

from .runs import train_run

DRIVERS = {"Bio1": "temperature", "Soilgrid-phh2o": "acidity", "Bio12": "rainfall", "Bio7": "continentality"}
"""Covariates of the world that species feel, and the axis that each shows."""
NOISE = ("noise", "smooth noise")
CONTENT = {
    "split": {"num_folds": 3, "block_size_km": 50, "buffer_km": 0},
    "model": {"modalities": ["covariates"], "embedding_dim": 32, "hidden_dim": 64, "dropout": 0.1},
    "train": {
        **{"num_folds": 3, "epochs": 25, "batch_size": 64, "learning_rate": 3e-3, "device": "cpu"},
        "kinds": ["network", "booster"],
    },
}


def make_truth(num_plots: int, num_species: int) -> tuple[World, Species, pl.DataFrame]:
    rng = np.random.default_rng(0)
    world = make_world(SimulateConfig(num_species=num_species, cell_size_deg=0.1), rng)
    landscape = visit_features(world, sample_landscape(world, 1500, rng))
    species = make_species(num_species, landscape, rng, richness=num_species / 6)
    row, col = np.nonzero(world.land & np.isfinite(world.covariates["Soilgrid-phh2o"]))
    chosen = rng.choice(len(row), num_plots)
    lon = WEST + (col[chosen] + rng.random(num_plots)) * 0.1
    lat = SOUTH + HEIGHT_DEG - (row[chosen] + rng.random(num_plots)) * 0.1
    places = make_places(world, lon, lat, rng).with_columns(year=pl.Series(rng.choice(YEARS, num_plots)))
    return world, species, add_yearly_latents(world, places)


def as_store(world: World, species: Species, plots: pl.DataFrame) -> Store:
    rng = np.random.default_rng(1)
    draw = draw_presences(species, visit_features(world, plots), rng, keep_probabilities=False, with_oracle=False)
    row, col = plots["row"].to_numpy(), plots["col"].to_numpy()
    values = {name: world.covariates[name][row, col] for name in DRIVERS}
    lon, lat = plots["lon"].to_numpy(), plots["lat"].to_numpy()
    values["noise"] = rng.normal(size=len(plots))
    values["smooth noise"] = np.sin(lon * 2.1 + 1) + np.cos(lat * 1.7 + lon)  # runs across the map as climate does
    blocks = block_ids(lon, lat, 50.0)
    surveys = {"survey_id": np.arange(len(plots)).astype(str), "lon": lon, "lat": lat, "year": plots["year"].to_numpy()}
    folds = np.random.default_rng(2).permutation(blocks.max() + 1)[blocks] % 3
    labels = draw.presences.select("row", species_id=pl.Series(species.species_id[draw.presences["species_index"]]))
    table = pl.DataFrame({name: each.astype(np.float32) for name, each in values.items()})
    return Store.from_tables(pl.DataFrame(surveys | {"fold": folds.astype(np.int8)}), labels, table)


@pytest.fixture(scope="module")
def truth() -> tuple[World, Species, pl.DataFrame]:
    return make_truth(700, 40)


@pytest.fixture(scope="module")
def run(truth: tuple[World, Species, pl.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_run(as_store(*truth), tmp_path_factory.mktemp("world"), CONTENT)


@pytest.mark.slow
def test_what_plants_feel_counts_more_than_noise_that_runs_across_the_map(run: Run) -> None:
    table = measure_importance(run, num_repeats=3).table.filter(shuffled="everywhere", kind="variable")
    lost = dict(table.select("variable", "loglik_lost").rows())
    low = dict(table.select("variable", "loglik_lost_low").rows())
    assert min(lost[name] for name in DRIVERS) > 2 * max(abs(lost[name]) for name in NOISE)
    assert all(low[name] > 0 for name in ("Bio1", "Soilgrid-phh2o")), low


@pytest.mark.slow
def test_curves_follow_those_of_the_truth(run: Run, truth: tuple[World, Species, pl.DataFrame]) -> None:
    """Of the ten species that truly respond most; less of climate, whose covariates go together, than of acidity."""
    least = {"Bio1": 0.7, "Soilgrid-phh2o": 0.85}
    variables = [find_variable(list_variables(run), name) for name in least]
    species = list(range(len(run.species)))
    found = measure_responses(run, variables, species, num_places=60)
    for name, bound in least.items():
        pairs = []
        for subject, values, curve in curves_of(run, found.curves, name, species):
            true = true_curve(truth, run, name, values, subject)
            pairs.append((np.ptp(true), np.corrcoef(true, curve)[0, 1]))
        assert np.median([r for _, r in sorted(pairs)[-10:]]) > bound, (name, sorted(pairs)[-10:])


def curves_of(run: Run, curves: pl.DataFrame, name: str, common: list[int]) -> list[tuple[int, np.ndarray, np.ndarray]]:
    own = curves.filter(pl.col("variable") == name, pl.col("is_asked"))
    parts = {at: own.filter(subject=str(run.species[at])) for at in common}
    return [(at, part["value"].to_numpy(), part["response"].to_numpy()) for at, part in parts.items()]


def true_curve(
    truth: tuple[World, Species, pl.DataFrame], run: Run, name: str, values: np.ndarray, subject: int
) -> np.ndarray:
    """Return the true mean probability over all plots when a variable is set, in the simulator's own units."""
    world, species, plots = truth
    row, col = plots["row"].to_numpy(), plots["col"].to_numpy()
    axes = {axis: layer[row, col] for axis, layer in world.drivers.items()} | {x: plots[x].to_numpy() for x in LATENTS}
    land = world.land & np.isfinite(world.covariates[name])
    slope, start = np.polyfit(world.covariates[name][land], world.drivers[DRIVERS[name]][land], 1)
    at = int(np.flatnonzero(species.species_id == run.species_ids[subject])[0])
    means = []
    for value in values:
        changed = axes | {DRIVERS[name]: np.full(len(plots), start + slope * value)}
        means.append(true_probabilities(species, make_features(changed))[:, at].mean())
    return np.array(means)
