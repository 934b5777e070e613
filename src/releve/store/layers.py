"""Values of a study's rasters at its surveys, beside what its tables tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from releve.ingest.columns import match_covariates
from releve.ingest.covariates import Covariates
from releve.ingest.study import Source, Study
from releve.ingest.surveys import Surveys
from releve.ingest.units import compare_units
from releve.progress import progress_bar, say
from releve.rasters.layer import Layer
from releve.rasters.layers import open_layers
from releve.rasters.sample import Sampled, sample_layers

NUM_NAMED = 5
"""Layers that a message names."""


def layers_of(study: Study) -> tuple[Layer, ...]:
    """Return the layers of a study's rasters."""
    return open_layers(study.config.rasters, study.root, crs=study.config.crs)


def rasters_in(source: Source) -> dict[str, Any] | None:
    """Return where a study's rasters lie and how they are read, to be kept with what was made of them."""
    if not isinstance(source, Study) or not (source.config.rasters or source.config.patches or source.config.series):
        return None
    kept = source.config.model_dump(mode="json", exclude_defaults=True, include={"crs", "rasters", "patches", "series"})
    return kept | {"root": str(source.root.resolve())}


def add_layers(
    layers: Sequence[Layer],
    surveys: dict[str, Surveys],
    covariates: dict[str, Covariates],
    *,
    work: Path | None = None,
    num_workers: int = 0,
    scheduler: str | None = None,
) -> dict[str, Covariates]:
    """Return each split's covariates with a column for each layer that its tables do not hold.

    All places are read in one go, so that a block of a file is read once whatever the number of splits.

    Parameters
    ----------
    layers
        The study's.
    surveys, covariates
        By split; covariates row by row as the surveys.
    work, num_workers, scheduler
        As of :func:`releve.rasters.sample.sample_layers`.
    """
    if not layers or not covariates:
        return covariates
    lon, lat = (np.concatenate([s.table[axis].to_numpy() for s in surveys.values()]) for axis in ("lon", "lat"))
    sampled = sample_with_bar(layers, lon, lat, work=work, num_workers=num_workers, scheduler=scheduler)
    columns = {column: layer for layer in layers for column in layer.columns}
    twice = _in_tables(columns, covariates, sampled)
    _say_what_is_amiss(sampled, len(lon))
    kept = [name for name in sampled.names if name not in twice]
    at, first = [sampled.names.index(name) for name in kept], 0
    found = {}
    for split, given in covariates.items():
        values = sampled.values[first : first + len(given.table), at]
        first += len(given.table)
        table = given.table.hstack([pl.Series(name, values[:, i]) for i, name in enumerate(kept)])
        classes = {name: dict(columns[name].classes) for name in kept if columns[name].categorical}
        found[split] = replace(
            given,
            table=table,
            groups=given.groups | {name: columns[name].group for name in kept},
            units=given.units | {name: columns[name].units for name in kept},
            categorical=(*given.categorical, *(name for name in kept if columns[name].categorical)),
            classes=given.classes | {name: names for name, names in classes.items() if any(names.values())},
            not_covered={name: int(np.isnan(values[:, i]).sum()) for i, name in enumerate(kept)},
        )
    return found


def sample_with_bar(
    layers: Sequence[Layer],
    lon: np.ndarray,
    lat: np.ndarray,
    *,
    work: Path | None = None,
    num_workers: int = 0,
    scheduler: str | None = None,
) -> Sampled:
    """Return the values of layers at places, with a bar that shows how far it is."""
    with progress_bar() as bar:
        task = bar.add_task("rasters", total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        settings = {"work": work, "num_workers": num_workers, "scheduler": scheduler}
        return sample_layers(layers, lon, lat, **settings, advance=advance)  # type: ignore[arg-type]


def _in_tables(columns: dict[str, Layer], covariates: dict[str, Covariates], sampled: Sampled) -> set[str]:
    """Return the columns of layers that the tables hold too, and say how the two compare."""
    table = pl.concat([given.table for given in covariates.values()], how="diagonal")
    named = [name for name in table.columns if name != "survey_id"]
    matched = match_covariates(list(columns), named, origin="the rasters").columns
    for name, layer in matched.items():
        measured, read = table[name].fill_null(np.nan).to_numpy(), sampled.values[:, sampled.names.index(layer)]
        conversion = compare_units(read, measured)
        what = f"{name} is in the tables and, as {layer}, in the rasters; the tables' values are taken"
        if conversion:
            say(f"{what}. The raster's are those of the tables when they are {conversion}: give its scale and offset")
        else:
            say(what)
    return set(matched.values())


def _say_what_is_amiss(sampled: Sampled, num_places: int) -> None:
    if sampled.num_outside_all:
        say(f"{sampled.num_outside_all:,} of {num_places:,} places lie outside all rasters")
    partly = {name: n - sampled.num_outside_all for name, n in sampled.outside.items()}
    for what, counts in (("outside", partly), ("where there is no data in", sampled.on_nodata)):
        some = {name: n for name, n in counts.items() if n and name not in sampled.empty}
        if some:
            say(f"{max(some.values()):,} of {num_places:,} places lie {what} {_named(some)}")
    if sampled.empty:
        say(f"no place has a value in {_named(sampled.empty)}")
    if sampled.constant:
        say(f"all places have the same value in {_named(sampled.constant)}, which teaches nothing")
    if sampled.correlated:
        pairs = [f"{first} and {second}" for first, second in sampled.correlated]
        say(f"{_named(pairs)} tell the same at these places: one of each pair is enough")


def _named(names: Sequence[str] | dict[str, int]) -> str:
    listed = list(names)
    return ", ".join(listed[:NUM_NAMED]) + (f" and {len(listed) - NUM_NAMED} others" if len(listed) > NUM_NAMED else "")
