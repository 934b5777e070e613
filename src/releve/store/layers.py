"""Values of a study's rasters at its surveys, beside what its tables tell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.ingest.classes import recode
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


def rasters_in(source: Source, out: Path) -> dict[str, Any] | None:
    """Return where a study's rasters lie and how they are read, to be kept with the store that was made of them.

    ``root`` is the study's folder; ``root_from_store`` the same from a store inside it, which may move with it.
    """
    if not isinstance(source, Study) or not (source.config.rasters or source.config.patches or source.config.series):
        return None
    kept = source.config.model_dump(mode="json", exclude_defaults=True, include={"crs", "rasters", "patches", "series"})
    root, store = source.root.resolve(), out.resolve()
    inside = {"root_from_store": os.path.relpath(root, store)} if store.is_relative_to(root) else {}
    return kept | {"root": str(root)} | inside


def add_layers(
    layers: Sequence[Layer],
    surveys: dict[str, Surveys],
    covariates: dict[str, Covariates],
    *,
    work: Path | None = None,
    num_workers: int = 0,
    scheduler: str | None = None,
) -> dict[str, Covariates]:
    """Return each split's covariates with a column for each layer.

    Where the tables have a value of a layer's name, it is that; a layer in another unit than the tables is left out.
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
    _say_what_is_amiss(sampled, len(lon))
    named = _in_tables(columns, covariates, sampled)
    first = 0
    found = {}
    for split, given in covariates.items():
        rows = slice(first, first := first + len(given.table))
        values = {column: sampled.values[rows, at] for at, column in enumerate(sampled.names)}
        found[split] = _with_layers(given, values, {column: columns[column] for column in sampled.names}, named)
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


@dataclass(frozen=True)
class _InTables:
    """A covariate of the tables that is a layer, too."""

    name: str
    group: str
    units: str
    categorical: bool
    classes: dict[int, str]
    is_other_unit: bool


def _with_layers(
    given: Covariates, values: dict[str, NDArray], layers: dict[str, Layer], named: dict[str, _InTables]
) -> Covariates:
    """Return the covariates of a split with those of its layers."""
    table, groups, units, classes = given.table, dict(given.groups), dict(given.units), dict(given.classes)
    categorical, not_covered = list(given.categorical), {}
    for column, layer in layers.items():
        names = dict(layer.classes) if layer.gives_codes and any(name for _, name in layer.classes) else {}
        own = named.get(column, _InTables(column, layer.group, layer.units, layer.gives_codes, names, False))
        if own.is_other_unit:
            continue
        read = recode(values[column], names, own.classes)
        if own.name in table.columns:
            read = np.where(np.isnan(told := table[own.name].fill_null(np.nan).to_numpy()), read, told)
        else:
            groups[own.name], units[own.name] = own.group, own.units
            categorical += [own.name] * own.categorical
            classes |= {own.name: own.classes} if own.classes else {}
            not_covered[own.name] = int(np.isnan(read).sum())
        table = table.with_columns(pl.Series(own.name, read, pl.Float32))
    return replace(
        given,
        table=table,
        groups=groups,
        units=units,
        categorical=tuple(categorical),
        classes=classes,
        not_covered=not_covered,
    )


def _in_tables(columns: dict[str, Layer], covariates: dict[str, Covariates], sampled: Sampled) -> dict[str, _InTables]:
    """Return the columns of layers that the tables hold too -> what these say of them; and say how the two compare."""
    table = pl.concat([given.table for given in covariates.values()], how="diagonal")
    names = [name for name in table.columns if name != "survey_id"]
    matched = match_covariates(list(columns), names, origin="the rasters").columns
    found = {}
    for name, column in matched.items():
        having = next(given for given in covariates.values() if name in given.groups)
        categorical, classes = name in having.categorical, having.classes.get(name, {})
        measured, read = table[name].fill_null(np.nan).to_numpy(), sampled.values[:, sampled.names.index(column)]
        conversion = None if categorical else compare_units(read, measured)
        what = f"{name} is in the tables and, as {column}, in the rasters; the tables' values are taken"
        if conversion:
            say(
                f"{what}, and nothing where they have none. The raster's are those of the tables when they are "
                f"{conversion}: give its scale and offset"
            )
        elif classes and not any(known for _, known in columns[column].classes):
            say(f"{what}, and nothing where they have none: the raster does not name its classes")
        else:
            say(f"{what}, the raster's where they have none")
        units = having.units.get(name, "")
        found[column] = _InTables(name, having.groups[name], units, categorical, classes, conversion is not None)
    return found


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
