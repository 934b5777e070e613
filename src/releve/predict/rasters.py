"""Covariates of any place, from the rasters that a run learned from or others of the same names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from releve.errors import RasterError, RunError, StoreError
from releve.ingest.classes import recode
from releve.ingest.columns import match_covariates
from releve.ingest.config import RasterConfig, RastersConfig
from releve.ingest.own import Sampler
from releve.ingest.study import load_study
from releve.progress import say
from releve.rasters.layer import Layer
from releve.rasters.layers import open_layers
from releve.runs.folder import Run
from releve.store.contents import rasters_around
from releve.store.layers import sample_with_bar
from releve.store.read import StoredArray
from releve.store.schema import ArraySpec

NOT_RASTERS = {".csv", ".tsv", ".txt", ".toml", ".xml", ".prj", ".tfw", ".json", ".md", ".gri", ".ovr", ".pdf"}
"""Files beside rasters, which are none."""


def sampler_for(
    layers: Sequence[Layer],
    covariates: Sequence[str],
    classes: Mapping[str, Mapping[int, str]] | None = None,
    *,
    given: Path | None = None,
) -> Sampler | None:
    """Return what tells a run's covariates of any place; None if there are no layers.

    Parameters
    ----------
    layers
        Those of :func:`rasters_for`.
    covariates
        The model's names; layers are found by them or by others that cannot be mistaken, in any order.
    classes
        Of covariates whose classes have names, the name of each code: those of rasters are told by their names.
    given
        Where the layers are, if the user said so: one that has none of the covariates is then refused.
    """
    if not layers:
        return None
    columns = {column: layer for layer in layers for column in layer.columns}
    matched = match_covariates(list(columns), covariates, origin=str(given or "the rasters")).columns
    if given is not None and not matched:
        raise RasterError(
            f"none of the layers {list(columns)[:8]} of {given} is a covariate of the run",
            expected=f"layers called as {list(covariates)[:8]}",
        )

    def sample(places: pl.DataFrame, names: Sequence[str]) -> Mapping[str, np.ndarray]:
        wanted = {name: matched[name] for name in names if name in matched}
        needed = [layer for layer in layers if not set(layer.columns).isdisjoint(wanted.values())]
        if not needed:
            return {}
        found = sample_with_bar(needed, places["lon"].to_numpy(), places["lat"].to_numpy())
        if found.num_outside_all:
            say(f"{found.num_outside_all:,} of {len(places):,} places lie outside all rasters")
        values = {}
        for name, column in wanted.items():
            read, known = found.values[:, found.names.index(column)], (classes or {}).get(name, {})
            values[name] = recode(read, {code: each for code, each in columns[column].classes if each}, known)
            num_unknown = int((np.isfinite(read) & np.isnan(values[name])).sum())
            if num_unknown:
                say(
                    f"{name} of {num_unknown:,} of {len(places):,} places is no class that the run knows by its name, "
                    "taken as unknown"
                )
        return values

    return sample


@dataclass(frozen=True)
class Rasters:
    """Rasters that tell of any place, and the folder that they are named from."""

    config: RastersConfig
    root: Path

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the covariates; their files are opened once."""
        return open_layers(self.config.rasters, self.root, crs=self.config.crs)

    def arrays(self, places: pl.DataFrame, modalities: Sequence[str]) -> dict[str, StoredArray]:
        """Return patches and series of places, in memory, where there are rasters of them."""
        found = {}
        for name in modalities:
            source = rasters_around(self.config, self.root, "places", places, name)
            if source is None or not len(source.rows):
                continue
            parts = [source.read_chunk(index) for index in range(source.num_chunks())]
            rows = np.concatenate([part.rows for part in parts])
            row_of = np.full(len(places), -1)
            row_of[rows] = np.arange(len(rows))
            spec = ArraySpec(
                name=name,
                file="",
                dtype=np.dtype(source.dtype).name,
                shape=source.shape,
                num_rows=len(rows),
                fill=source.fill,
                channels=tuple(source.channel_names),
                units={"values": source.units},
                first_year=getattr(source, "first_year", None),
            )
            found[name] = StoredArray(spec, np.concatenate([part.values for part in parts]), row_of)
        return found


def rasters_for(run: Run, given: Path | None = None) -> Rasters | None:
    """Return the rasters that new places are described by.

    Parameters
    ----------
    run
        A trained run.
    given
        A study.toml, a folder of rasters, or one raster; by default the rasters of the run's study, if it had any.

    Raises
    ------
    RasterError
        If a folder holds no raster, or those of the run's study are no longer there.
    """
    if given is None:
        return _rasters_of(run)
    if given.suffix.lower() == ".toml":
        study = load_study(given)
        return Rasters(study.config, study.root)
    names: tuple[str, ...] = (given.name,)
    if given.is_dir():
        files = sorted(file for file in given.iterdir() if file.is_file() and not file.name.startswith("."))
        names = tuple(file.name for file in files if file.suffix.lower() not in NOT_RASTERS and ".aux" not in file.name)
        if not names:
            raise RasterError(f"{given} holds no raster", expected="a folder of GeoTIFFs or the like")
    return Rasters(RastersConfig(rasters=(RasterConfig(file=names),)), given if given.is_dir() else given.parent)


def _rasters_of(run: Run) -> Rasters | None:
    """Return the rasters that a run's store was made with; None if it had none, or is no longer there."""
    try:
        known = json.loads((run.store.path / "run.json").read_text(encoding="utf-8")).get("rasters")
    except (OSError, RunError, StoreError):
        return None
    if known is None:
        return None
    root, from_store = Path(known.pop("root")), known.pop("root_from_store", None)
    if from_store is not None and not root.is_dir():  # the study's folder was moved with the run inside it
        root = (run.store.path / from_store).resolve()
    rasters = Rasters(RastersConfig.model_validate(known), root)
    try:
        _ = rasters.layers
    except RasterError as error:
        raise RasterError(
            f"the rasters that run {run.path} learned from: {error}", action="Say where they are with --rasters"
        ) from error
    return rasters
