"""Covariates of any place, from the rasters that a run learned from or others of the same names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from releve.errors import RasterError, RunError, StoreError
from releve.ingest.columns import match_covariates
from releve.ingest.config import RasterConfig
from releve.ingest.own import Sampler
from releve.ingest.study import load_study
from releve.progress import say
from releve.rasters.layer import Layer
from releve.rasters.layers import open_layers
from releve.runs.folder import Run
from releve.store.layers import layers_of, sample_with_bar

NOT_RASTERS = {".csv", ".tsv", ".txt", ".toml", ".xml", ".prj", ".tfw", ".json", ".md", ".gri", ".ovr", ".pdf"}
"""Files beside rasters, which are none."""


def sampler_for(run: Run, rasters: Path | None, covariates: Sequence[str]) -> Sampler | None:
    """Return what tells a run's covariates of any place; None if there are no rasters.

    Parameters
    ----------
    run, rasters
        As of :func:`layers_for`.
    covariates
        The model's names; layers are found by them or by others that cannot be mistaken, in any order.
    """
    layers = layers_for(run, rasters)
    if not layers:
        return None
    columns = {column: layer for layer in layers for column in layer.columns}
    matched = match_covariates(list(columns), covariates, origin=str(rasters or "the rasters")).columns
    if rasters is not None and not matched:
        raise RasterError(
            f"none of the layers {list(columns)[:8]} of {rasters} is a covariate of the run",
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
        return {name: found.values[:, found.names.index(column)] for name, column in wanted.items()}

    return sample


def layers_for(run: Run, rasters: Path | None = None) -> tuple[Layer, ...]:
    """Return the layers that covariates of new places are taken from.

    Parameters
    ----------
    run
        A trained run.
    rasters
        A study.toml, a folder of rasters, or one raster; by default the rasters of the run's study, if it had any.

    Raises
    ------
    RasterError
        If rasters cannot be found or read.
    """
    if rasters is not None and rasters.suffix.lower() == ".toml":
        return layers_of(load_study(rasters))
    if rasters is not None and rasters.is_dir():
        files = sorted(file for file in rasters.iterdir() if file.is_file() and not file.name.startswith("."))
        names = [file.name for file in files if file.suffix.lower() not in NOT_RASTERS and ".aux" not in file.name]
        if not names:
            raise RasterError(f"{rasters} holds no raster", expected="a folder of GeoTIFFs or the like")
        return open_layers([RasterConfig(file=tuple(names))], rasters)
    if rasters is not None:
        return open_layers([RasterConfig(file=rasters.name)], rasters.parent)
    known = rasters_of(run)
    if known is None:
        return ()
    try:
        descriptions = [RasterConfig.model_validate(each) for each in known["rasters"]]
        return open_layers(descriptions, Path(known["root"]), crs=known["crs"])
    except RasterError as error:
        raise RasterError(
            f"the rasters that run {run.path} learned from: {error}", action="Say where they are with --rasters"
        ) from error


def rasters_of(run: Run) -> dict[str, Any] | None:
    """Return where the rasters of a run's study lie, as its store notes it; None if it had none."""
    try:
        file = run.store.path / "run.json"
        return json.loads(file.read_text(encoding="utf-8")).get("rasters")
    except (OSError, RunError, StoreError):
        return None
