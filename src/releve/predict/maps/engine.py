"""One tile of a map: its cells are described as places are, predicted as places are, and packed."""

# B cells predicted together, S species, N cells of a tile

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from releve.decide.expected_f1 import expected_f1_sizes
from releve.decide.richness import moments_of, richness_interval
from releve.errors import RasterError
from releve.ingest.classes import recode
from releve.ingest.columns import match_covariates
from releve.predict.maps.facts import Facts
from releve.predict.maps.grid import Tile, cell_centres
from releve.predict.maps.pack import pack_empty, pack_tile
from releve.predict.maps.region import cells_inside, region_on
from releve.predict.maps.sparse import Likely, Places, cut_for, likely_species, places_of_species
from releve.predict.novelty import Novelty, read_novelty
from releve.predict.rasters import Rasters, rasters_for
from releve.predict.training import training_of
from releve.progress import quiet_progress
from releve.rasters.grid import Grid
from releve.rasters.layer import Layer
from releve.rasters.sample import sample_layers
from releve.runs.folder import Run, open_run
from releve.runs.predict import Predictor
from releve.store.read import Store

CHUNK_CELLS, CHUNK_IMAGES = 8_192, 512
"""Cells that are described together; fewer where patches or series are looked at, which are large."""
NUM_TOP = 10
"""Most probable species of a cell that are also written as an image for a GIS."""
SAMPLE_CELLS = 256
"""Cells of a tile that its cut is chosen by."""
KNOWN_SHARE = 0.5
"""A cell is mapped if this share of the layers has a value there: the sea is not, where one layer reaches over it."""


@dataclass(frozen=True)
class Plan:
    """All that a tile depends on but its place; small enough to be sent to another machine."""

    run: str
    grid: Grid
    facts: Facts
    rasters: str | None = None
    """Where covariates are taken from, if not from the rasters that the run learned from."""
    region: str | None = None
    """File of the region, as WKB in degrees."""
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Indicators: of each its name and its species."""
    precision: str | None = None
    """fp32 or bf16, if not that of training."""
    state: str = ""
    """What tells run, rasters and region from earlier ones of the same names: a worker may have drawn those."""


@dataclass(frozen=True)
class TileWork:
    """A tile to be worked on, by a thread or a machine."""

    plan: Plan
    tile: Tile

    def key(self) -> str:
        """Return its name."""
        return self.tile.name

    def read(self) -> NDArray[np.uint8]:
        """Return the tile's bytes."""
        with quiet_progress():
            return np.frombuffer(engine_for(self.plan).draw(self.tile), np.uint8)


@lru_cache(maxsize=2)
def engine_for(plan: Plan) -> Engine:
    """Return what draws the tiles of a plan; a process makes it once."""
    return make_engine(open_run(Path(plan.run)), plan)


@dataclass(frozen=True)
class Engine:
    """A run, the rasters that describe cells, and where each of its covariates is found in them."""

    run: Run
    plan: Plan
    layers: tuple[Layer, ...]
    """Those that hold a covariate of the run."""
    columns: dict[str, str]
    """Covariate of the run -> column of the layers."""
    rasters: Rasters | None
    modalities: tuple[str, ...]
    """Series and patches that are looked at."""
    novelty: Novelty
    classes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """Of covariates whose classes have names, the name of each code."""

    def draw(self, tile: Tile) -> bytes:
        """Return a tile, packed."""
        torch.set_num_threads(1)  # tiles are worked on side by side
        num_cells = tile.height * tile.width
        cells, lon, lat, values = self.cells_of(tile)
        if not len(cells):
            return pack_empty(num_cells)
        likely, places, arrays = self._predict(lon, lat, values)
        counts = np.zeros((2, num_cells), np.int64)
        counts[:, cells] = likely.counts, places.counts
        return pack_tile(
            replace(likely, counts=counts[0]),
            replace(places, counts=counts[1]),
            {name: _spread_out(column, cells, num_cells) for name, column in arrays.items()},
            len(self.run.species),
        )

    def cells_of(
        self, tile: Tile
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], dict[str, NDArray[np.float32]]]:
        """Return the N cells of a tile that are mapped, (N,) longitude and latitude, and covariates by name."""
        lon, lat = cell_centres(self.plan.grid, tile)
        wanted = np.isfinite(lon) & np.isfinite(lat)
        if self.plan.region is not None:
            region = region_on(self.plan.region, self.plan.grid.crs, self.plan.state)
            wanted &= cells_inside(region, self.plan.grid, tile).ravel()
        cells = np.flatnonzero(wanted)
        values = self.describe(lon[cells], lat[cells]) if len(cells) else {}
        if values:
            known = np.mean([np.isfinite(column) for column in values.values()], axis=0) >= KNOWN_SHARE
            cells, values = cells[known], {name: column[known] for name, column in values.items()}
        return cells, lon[cells], lat[cells], values

    def describe(self, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
        """Return the run's covariates at places, those that the rasters have, coded as the run knows them."""
        if not self.layers:
            return {}
        sampled = sample_layers(self.layers, lon, lat, num_workers=1)
        known = {column: dict(layer.classes) for layer in self.layers for column in layer.columns}
        found = {}
        for name, column in self.columns.items():
            read = sampled.values[:, sampled.names.index(column)]
            named = {code: each for code, each in known[column].items() if each}
            found[name] = recode(read, named, self.classes.get(name, {})).astype(np.float32)
        return found

    def store_of(self, lon: NDArray, lat: NDArray, values: Mapping[str, NDArray]) -> Store:
        """Return places as a store: what the run is asked about."""
        ids = pl.Series("survey_id", np.arange(len(lon))).cast(pl.String)
        surveys = pl.DataFrame({"survey_id": ids, "lon": lon, "lat": lat}).with_columns(self.plan.facts.columns())
        arrays = self.rasters.arrays(surveys, self.modalities) if self.rasters and self.modalities else {}
        covariates = pl.DataFrame(values) if values else None
        return Store.from_tables(surveys, None, covariates, arrays=arrays, origin="the map")

    def _predict(
        self, lon: NDArray, lat: NDArray, values: Mapping[str, NDArray]
    ) -> tuple[Likely, Places, dict[str, NDArray]]:
        """Return what is kept of a tile's cells, and their numbers by name."""
        some = np.unique(np.linspace(0, len(lon) - 1, SAMPLE_CELLS).astype(int))
        predictor = self._predictor(lon, lat, values, some)
        cut = cut_for(np.concatenate([predictor.probs(rows).cpu().numpy() for rows in predictor.batches()]))
        step = CHUNK_IMAGES if self.modalities else CHUNK_CELLS
        likely: list[Likely] = []
        places: list[Places] = []
        arrays: dict[str, list[NDArray]] = {}
        for first in range(0, len(lon), step):
            predictor = self._predictor(lon, lat, values, np.arange(first, min(first + step, len(lon))))
            for name, column in self._novelty(predictor.store).items():
                arrays.setdefault(name, []).append(column)
            for rows in predictor.batches():
                probs_BS, spread_B = predictor.probs_and_spread(rows)
                probs = probs_BS.cpu().numpy()
                likely.append(likely_species(probs))
                places.append(places_of_species(probs, cut))
                numbers = self.numbers(probs_BS, likely[-1])
                numbers |= {} if spread_B is None else {"spread": spread_B.cpu().numpy()}
                for name, column in numbers.items():
                    arrays.setdefault(name, []).append(column)
        joined = {name: np.concatenate(parts) for name, parts in arrays.items()}
        return Likely(*_joined(likely)), Places(*_joined(places)), joined

    def _predictor(
        self, lon: NDArray, lat: NDArray, values: Mapping[str, NDArray], cells: NDArray[np.int64]
    ) -> Predictor:
        """Return what predicts some cells."""
        described = {name: column[cells] for name, column in values.items()}
        return Predictor.of(self.run, self.store_of(lon[cells], lat[cells], described))

    def _novelty(self, store: Store) -> dict[str, NDArray]:
        """Return by name how new cells are to the run."""
        found = self.novelty.of(self.run, store, np.arange(len(store)))
        numbers = {name: getattr(found, name) for name in ("mess", "most_dissimilar", "dissimilarity")}
        return numbers | {"outside": (~found.inside).astype(np.uint8)}

    def numbers(self, probs_BS: torch.Tensor, likely: Likely) -> dict[str, NDArray]:
        """Return by name what the probabilities of cells come to; sums are over all species."""
        moments_BR = moments_of(probs_BS)
        low, high = richness_interval(moments_BR, self.run.decision.widening)
        arrays: dict[str, NDArray] = {
            "richness": moments_BR[:, 0].astype(np.float32),
            "richness_low": low,
            "richness_high": high,
            "rarity": rarity(probs_BS, self.run.models[0].statistics.num_positives),
            "entropy": entropy_bits(probs_BS),
        }
        if not self.run.config.is_of_records_alone:
            arrays["list_length"] = self._list_lengths(probs_BS, likely, moments_BR)
        for rank in range(NUM_TOP):
            arrays[f"top_{rank + 1}"] = _ranked(likely, rank)
        for name, species in self.plan.groups:
            probs_BG = probs_BS[:, list(species)].double()
            arrays[f"{name}:expected"] = probs_BG.sum(dim=1).float().cpu().numpy()
            arrays[f"{name}:any"] = -torch.expm1(torch.log1p(-probs_BG).sum(dim=1)).float().cpu().numpy()
        return arrays

    def _list_lengths(self, probs_BS: torch.Tensor, likely: Likely, moments_BR: NDArray) -> NDArray[np.uint16]:
        """Return (B,) the lengths of the run's lists."""
        if self.run.decision.rule == "expected_f1":
            sizes = expected_f1_sizes((likely.counts, likely.probs), moments_BR, probs_BS.shape[1])
            if len(untold := np.flatnonzero(sizes < 0)):
                sizes[untold] = self.run.decision.lists(probs_BS[untold]).lengths()
        else:
            sizes = self.run.decision.lists(probs_BS).lengths()
        return sizes.astype(np.uint16)


def _joined(parts: list[Any]) -> list[NDArray]:
    """Return the fields of several values, one after the other."""
    return [np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(parts[0])]


def make_engine(run: Run, plan: Plan) -> Engine:
    """Return what draws the tiles of a plan, in its precision.

    Raises
    ------
    RasterError
        If the rasters hold none of the run's covariates.
    """
    if plan.precision is not None:
        train = run.config.train.model_copy(update={"precision": plan.precision})
        run = replace(run, config=run.config.model_copy(update={"train": train}))
    table = run.models[0].statistics.tables.get("covariates")
    training = training_of(run)
    modalities = tuple(name for name in run.config.model.modalities if name in ("patch", "landsat", "climate"))
    rasters = rasters_for(run, None if plan.rasters is None else Path(plan.rasters))
    layers = rasters.layers if rasters else ()
    origin = plan.rasters or "the rasters"
    named = [column for layer in layers for column in layer.columns]
    columns = dict(match_covariates(named, table.columns, origin=origin).columns) if table and layers else {}
    if table and not columns:
        what = (
            f"none of the layers {named[:8]} of {origin} is a covariate of the run"
            if layers
            else (f"run {run.path} learned from covariates of tables, and no raster of them is known")
        )
        raise RasterError(
            what,
            expected=f"layers called as {list(table.columns)[:8]}",
            action="Say where the rasters are with --rasters: a folder, a file or a study.toml",
        )
    used = tuple(layer for layer in layers if not set(layer.columns).isdisjoint(columns.values()))
    return Engine(run, plan, used, columns, rasters, modalities, read_novelty(run), training.classes)


def entropy_bits(probs_BS: torch.Tensor) -> NDArray[np.float32]:
    """Return (B,) the sum over species of the entropy, in bits, of being there or not.

    Examples
    --------
    >>> entropy_bits(torch.tensor([[0.5, 0.5, 0.0], [0.005, 0.0, 0.0]])).astype(float).round(4).tolist()
    [2.0, 0.0454]
    """
    nats_B = torch.special.entr(probs_BS).sum(dim=1) + torch.special.entr(1 - probs_BS).sum(dim=1)
    return (nats_B / np.log(2)).float().cpu().numpy()


def rarity(probs_BS: torch.Tensor, num_positives_S: Sequence[int]) -> NDArray[np.float32]:
    """Return (B,) the sum over species of their probability, each divided by the training rows that hold it.

    Counted by training rows, and not by what the map itself shows of a species, a cell's number does not depend on
    which other cells are mapped, and two maps of one run can be compared.

    References
    ----------
    Albuquerque & Beier (2015), Rarity-weighted richness: a simple and reliable alternative to integer programming and
    heuristic algorithms for minimum set and maximum coverage problems in conservation planning, PLOS ONE 10, e0119905,
    doi:10.1371/journal.pone.0119905.

    Examples
    --------
    >>> rarity(torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 1.0]]), [4, 1, 0]).tolist()
    [0.75, 1.0]
    """
    weights_S = 1 / torch.tensor(num_positives_S, dtype=probs_BS.dtype, device=probs_BS.device).clamp_min(1)
    return torch.mv(probs_BS, weights_S).float().cpu().numpy()


def _ranked(likely: Likely, rank: int) -> NDArray[np.int32]:
    """Return (B,) the species of a rank, from 0; -1 where fewer are likely."""
    species = np.append(likely.species, -1)
    at = np.where(likely.counts > rank, likely.starts[:-1] + rank, len(species) - 1)
    return species[at].astype(np.int32)


def _spread_out(column: NDArray, cells: NDArray[np.int64], num_cells: int) -> NDArray:
    """Return numbers of some cells among all, with what stands for none in the others."""
    whole = np.full((num_cells, *column.shape[1:]), nothing_of(column.dtype), column.dtype)
    whole[cells] = column
    return whole


def nothing_of(dtype: np.dtype[Any]) -> float | int:
    """Return what stands for no value in numbers of a type: NaN, the largest of unsigned, -1 of signed ones."""
    if dtype.kind == "f":
        return float("nan")
    return int(np.iinfo(dtype).max) if dtype.kind == "u" else -1
