"""Columns of tables and rasters of one name, compared at the places of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from releve.discover.kinds import Table
from releve.discover.projections import DEGREES, transform
from releve.ingest.columns import match_covariates
from releve.ingest.units import PAIRED, compare_units
from releve.rasters.layer import Layer
from releve.rasters.sample import sample_layers

ENOUGH_PLACES = 500


@dataclass(frozen=True)
class UnitNote:
    """A layer whose values at the places of a table are those of its column in another unit."""

    layer: Layer
    column: str
    table: str
    conversion: str
    """What turns the layer's values into the table's."""

    @property
    def scale(self) -> float:
        """Return the ``scale`` by which the layer would agree with the table."""
        return self.layer.scale * PAIRED[self.conversion][0]

    @property
    def offset(self) -> float:
        """Return the ``offset`` by which the layer would agree with the table."""
        factor, offset = PAIRED[self.conversion]
        return self.layer.offset * factor + offset

    def __str__(self) -> str:
        """Return it as a sentence."""
        return f"raster {self.layer.name} {self.conversion} is {self.column} of {self.table} at its places"


def same_names(table: Table, names: Sequence[str]) -> dict[str, str]:
    """Return, for layers that a table has a column of numbers for, the column: by name or by another usual one.

    Raises
    ------
    TableError
        If several columns could be one layer.
    """
    roles = {found.column for found in table.columns().values()}
    columns = [name for name, profile in table.profiles.items() if profile.is_number and name not in roles]
    return match_covariates(columns, names, origin=table.sample.path.name).columns


def compare_units_of(table: Table, crs: str, layers: Sequence[Layer]) -> list[UnitNote]:
    """Return the layers that are in another unit than the column of the same name, found at the table's places.

    Parameters
    ----------
    table
        Of plots or records; of many places some hundred are looked at, evenly spread.
    crs
        Of its coordinates.
    layers
        Layers to compare; classes are not.

    Raises
    ------
    TableError
        If several columns could be one layer.
    """
    place = table.place
    amounts = [layer for layer in layers if not layer.categorical and not layer.derived]
    columns = same_names(table, [layer.name for layer in amounts])
    compared = [layer for layer in amounts if layer.name in columns]
    if place is None or place.points is None or not compared:
        return []
    known = np.flatnonzero(np.isfinite(place.points).all(axis=1))
    _, first = np.unique(place.points[known], axis=0, return_index=True)
    rows = known[np.sort(first)]
    if len(rows) > ENOUGH_PLACES:
        rows = rows[np.linspace(0, len(rows) - 1, ENOUGH_PLACES).astype(int)]
    lonlat = transform(place.points[rows], crs, DEGREES)
    values = sample_layers(compared, lonlat[:, 0], lonlat[:, 1]).values
    notes = []
    for at, layer in enumerate(compared):
        column = columns[layer.name]
        conversion = compare_units(values[:, at], table.profiles[column].numbers[rows])
        if conversion:
            notes.append(UnitNote(layer, column, table.sample.path.name, conversion))
    return notes
