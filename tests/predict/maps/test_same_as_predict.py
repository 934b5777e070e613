"""What a map says of a cell is what ``releve predict`` says of a place in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

from predict.maps.worlds import NUM_NOWHERE
from releve.predict.maps.grid import Tile, cell_centres
from releve.predict.maps.read import Maps
from releve.predict.maps.sparse import LIKELY, LOWEST, PROBS_OF_CODES
from releve.predict.tables import store_for_prediction, write_predictions
from releve.runs.folder import Run
from releve.runs.predict import Predictor

TOLERANCE = 2e-6
"""Of probabilities: how many cells are predicted together decides in which order float32 products are summed."""


@pytest.fixture(scope="module")
def cells(world_maps: Maps) -> NDArray[np.int64]:
    """All cells of the map, by row and column."""
    grid = world_maps.grid
    return np.stack(np.mgrid[: grid.height, : grid.width], axis=-1).reshape(-1, 2)


@pytest.fixture(scope="module")
def predicted(
    world_run: Run, world_maps: Maps, tmp_path_factory: pytest.TempPathFactory
) -> tuple[torch.Tensor, torch.Tensor]:
    """(cells, S) probabilities and (cells,) spread, by ``releve predict`` of a table with the facts of the manifest."""
    grid, facts = world_maps.grid, world_maps.manifest.facts
    lon, lat = cell_centres(grid, Tile(0, 0, grid.height, grid.width))
    places = {"lon": lon, "lat": lat, "area_m2": facts.area_m2, "uncertainty_m": facts.uncertainty_m}
    file = tmp_path_factory.mktemp("table") / "cells.csv"
    pl.DataFrame(places).with_columns(year=facts.year).write_csv(file)
    predictor = Predictor.of(world_run, store_for_prediction(world_run, file, "test"))
    found = [predictor.probs_and_spread(rows) for rows in predictor.batches()]
    return torch.cat([probs for probs, _ in found]), torch.cat([spread for _, spread in found if spread is not None])


def image(maps: Maps, name: str, band: int = 1) -> NDArray:
    return maps.image(name, band).ravel()


def test_cells_without_half_of_the_layers_are_no_cells_of_the_map(world_maps: Maps, cells: NDArray[np.int64]) -> None:
    nowhere = (cells[:, 0] < 20) & (cells[:, 1] < 25)
    assert nowhere.sum() == NUM_NOWHERE
    assert (np.isnan(image(world_maps, "richness")) == nowhere).all()
    assert ((image(world_maps, "list_length") == 65535) == nowhere).all()
    assert ((image(world_maps, "top_species") == -1) == nowhere).all()
    assert world_maps.manifest.num_cells == len(cells) - NUM_NOWHERE
    assert world_maps.species_in(3, 3)[0].tolist() == [] and world_maps.species_in(19, 24)[0].tolist() == []


def test_sums_over_species_are_those_of_the_predicted_probabilities(
    world_maps: Maps, predicted: tuple[torch.Tensor, torch.Tensor]
) -> None:
    probs = predicted[0].double().numpy()
    mapped = np.isfinite(image(world_maps, "richness"))
    q = 1 - probs
    bits = -(probs * np.log2(probs) + q * np.log2(q)).sum(axis=1)
    for name, expected in (("richness", probs.sum(axis=1)), ("entropy", bits), ("spread", predicted[1].numpy())):
        np.testing.assert_allclose(image(world_maps, name)[mapped], expected[mapped], rtol=1e-5, err_msg=name)
    assert np.ptp(probs.sum(axis=1)[mapped]) > 0.3 and predicted[1].min() > 0


def test_lists_are_as_long_as_the_predicted_ones(
    world_run: Run, world_maps: Maps, predicted: tuple[torch.Tensor, torch.Tensor]
) -> None:
    lengths, mapped = world_run.decision.lists(predicted[0]).lengths(), np.isfinite(image(world_maps, "richness"))
    assert (image(world_maps, "list_length")[mapped] == lengths[mapped]).all()
    assert len(np.unique(lengths[mapped])) > 1


def test_the_species_of_a_cell_are_the_predicted_ones_best_first(
    world_maps: Maps, cells: NDArray[np.int64], predicted: tuple[torch.Tensor, torch.Tensor]
) -> None:
    probs = predicted[0].numpy()
    top = np.stack([image(world_maps, "top_species", rank) for rank in range(1, 11)], axis=1)
    for at in np.random.default_rng(0).choice(np.flatnonzero(np.isfinite(image(world_maps, "richness"))), 60):
        species, found = world_maps.species_in(*cells[at])
        likely = np.flatnonzero(probs[at] >= LIKELY)
        assert sorted(species) == likely.tolist()
        assert (np.diff(probs[at][species]) <= TOLERANCE).all()
        logits = np.log(found / (1 - found)) - np.log(probs[at][species] / (1 - probs[at][species]))
        assert np.abs(logits).max() < 0.033  # half a step of the codes
        assert top[at].tolist() == [*species[:10], *[-1] * (10 - len(species))]


def test_the_cells_of_a_species_are_those_where_it_is_predicted(
    world_maps: Maps, predicted: tuple[torch.Tensor, torch.Tensor]
) -> None:
    mapped = np.isfinite(image(world_maps, "richness"))
    for species in range(world_maps.manifest.num_species):
        probs, found = predicted[0][:, species].numpy(), PROBS_OF_CODES[world_maps.codes_of(species).ravel()]
        assert not found[~mapped].any()
        kept = mapped & (found > 0)
        assert kept[mapped & (probs >= LIKELY)].all()
        logits = np.log(found[kept] / (1 - found[kept])) - np.log(probs[kept] / (1 - probs[kept]))
        inside = (probs[kept] > LOWEST) & (probs[kept] < 0.999)
        assert np.abs(logits[inside]).max() < 0.033


def test_a_few_places_by_the_commands_own_lists_and_probabilities(
    world_run: Run, world_maps: Maps, tmp_path: Path
) -> None:
    """Predicted five at a time, by a table with the cells' centres, not by all cells of a tile."""
    grid, facts = world_maps.grid, world_maps.manifest.facts
    some = [(25, 3), (33, 44), (39, 49), (20, 0), (0, 25)]
    parts = [cell_centres(grid, Tile(row, column, 1, 1)) for row, column in some]
    lon, lat = (np.concatenate([part[axis] for part in parts]) for axis in (0, 1))
    table = pl.DataFrame({"lon": lon, "lat": lat, "area_m2": facts.area_m2, "uncertainty_m": facts.uncertainty_m})
    table.with_columns(year=facts.year).write_csv(tmp_path / "some.csv")
    store = store_for_prediction(world_run, tmp_path / "some.csv", "test")
    write_predictions(world_run, store, tmp_path / "lists.csv", tmp_path / "probs.parquet")
    lists = pl.read_csv(tmp_path / "lists.csv")["species"].to_list()
    probs = pl.read_parquet(tmp_path / "probs.parquet")
    names = world_maps.species["species"].to_list()
    for number, (row, column) in enumerate(some):
        species, _ = world_maps.species_in(row, column)
        length = int(world_maps.image("list_length")[row, column])
        assert {names[s] for s in species[:length]} == set(lists[number].split(";"))
        theirs = probs.filter(pl.col("surveyId") == str(number + 1))
        assert theirs.filter(pl.col("probability") >= LIKELY)["species"].to_list() == [names[s] for s in species]
        assert theirs["probability"].sum() == pytest.approx(float(world_maps.image("richness")[row, column]), rel=1e-4)
        assert world_maps.cell_at(lon[number] + 0.009, lat[number] - 0.009) == (row, column)
