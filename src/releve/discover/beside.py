"""What tables and rasters tell of one another: projections, covariates that both have, units, records on a grid."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import rasterio

from releve.discover.parts import Part
from releve.discover.projections import (
    DEGREES,
    INSIDE,
    Hint,
    crs_of_column,
    crs_of_rasters,
    hints_of_numbers,
    hints_of_texts,
    share_inside,
)
from releve.discover.rasters import RasterGroup, RasterLayer, names_seen, value_at
from releve.discover.tables import LeftOut
from releve.discover.units import UnitNote, compare_units_of, same_names
from releve.errors import TableError
from releve.ingest.config import RasterConfig
from releve.rasters.layer import Layer
from releve.rasters.layers import open_layers

OTHER_TIMES = re.compile(
    r"(?<![a-z])(?:future|ssp\W?\d|rcp\W?\d|lgm|holocene|pal(?:a?e)o|scenario)|(?<![a-z\d])(?:20[3-9]\d|2100)(?!\d)",
    re.IGNORECASE,
)
"""What paths of rasters of other times than today are called."""


@dataclass(frozen=True)
class Projections:
    """Which projection everything is in."""

    parts: list[Part]
    """With theirs, as far as it is known."""
    rasters: dict[str, Hint] = field(default_factory=dict)
    """First file of rasters without one -> that which their numbers are taken to be in."""
    lacking: tuple[str, ...] = ()
    """Names of what has none."""
    hints: tuple[Hint, ...] = ()
    """What theirs may be."""


def covariate_layers(groups: list[RasterGroup], parts: list[Part], root: Path, left_out: LeftOut) -> list[RasterGroup]:
    """Return the groups of layers that can be covariates.

    Left out are layers of another time (``future``, ``ssp585``, 2070, ``lgm``) beside those of today, layers of one
    number, the records themselves drawn on a grid, and groups all of whose names another group has on another grid:
    another resolution or region, of which that is kept in which more of the places lie, then the finer one.
    """
    layers = [layer for group in groups if group.kind == "layers" for layer in group.layers]
    of_other_times = {layer for layer in layers if OTHER_TIMES.search(_told_name(layer, root))}
    if len(of_other_times) == len(layers):
        of_other_times = set()
    made = []
    for group in groups:
        kept = []
        for layer in group.layers:
            why = _why_left_out(layer, group, parts) if group.kind == "layers" else ""
            if layer in of_other_times:
                why = "of another time than the other rasters; to predict with, give it to releve predict --rasters"
            if why:
                left_out.append((layer.file, why))
            else:
                kept.append(layer)
        if kept:
            made.append(group if len(kept) == len(group.layers) else replace(group, layers=tuple(kept), pattern=None))
    return _without_other_grids(made, parts, left_out)


def _told_name(layer: RasterLayer, root: Path) -> str:
    """Return the path of a layer from the folder that is looked through, and its name."""
    path = layer.file.relative_to(root) if layer.file.is_relative_to(root) else layer.file
    return f"{path.as_posix()} {layer.name}"


def _why_left_out(layer: RasterLayer, group: RasterGroup, parts: list[Part]) -> str:
    if layer.binary and (why := _why_response(layer, group, parts)):
        return why
    return "it holds one number everywhere" if layer.constant else ""


def _without_other_grids(groups: list[RasterGroup], parts: list[Part], left_out: LeftOut) -> list[RasterGroup]:
    """Return the groups but for those whose names are all in a group on another grid that serves better."""
    points = np.concatenate([part.points for part in parts]) if parts else np.zeros((0, 2))
    better = sorted(
        (group for group in groups if group.kind == "layers"),
        key=lambda group: (-share_inside(points, group), abs(group.layers[0].transform[0])),
    )
    kept: list[RasterGroup] = []
    for group in better:
        grid = (group.layers[0].transform, group.layers[0].shape, group.crs)
        names = {layer.name for layer in group.layers}
        twin = next(
            (
                other
                for other in kept
                if names <= {layer.name for layer in other.layers}
                and grid != (other.layers[0].transform, other.layers[0].shape, other.crs)
            ),
            None,
        )
        if twin is None:
            kept.append(group)
        else:
            why = f"layers of the same names are in {twin.files[0].parent.name or twin.files[0].name}, on another grid"
            left_out += [(file, why) for file in group.files]
    return [group for group in groups if group.kind != "layers" or group in kept]


def _why_response(layer: RasterLayer, group: RasterGroup, parts: list[Part]) -> str:
    a, _, west, _, e, north = layer.transform
    for part in parts:
        if part.table.kind != "records" or len(part.points) < 5 or share_inside(part.points, group) < INSIDE:
            continue
        cells = np.unique(np.floor((part.points - [west, north]) / [a, e]).astype(int), axis=0)
        values = value_at(layer, (cells + 0.5) * [a, e] + [west, north])
        with rasterio.open(layer.path) as source:
            num_ones = int((source.read(layer.band, masked=True).filled(0) == 1).sum())
        if np.mean(values == 1) >= INSIDE and num_ones <= 1.5 * len(cells):
            return f"it is 1 where {part.name} has records: these drawn on a grid, not a covariate"
    return ""


# ---- projections -------------------------------------------------------------------------------------------


def give_projections(parts: list[Part], groups: list[RasterGroup], texts: Sequence[Path]) -> Projections:
    """Return the projection of tables and rasters: what files say, and what can be told from one another.

    Numbers that are degrees are in EPSG:4326. Metres of a table are in the projection of the rasters that hold the
    places, if these name one. All else is to be given: what texts speak of and what the numbers allow is proposed.
    """
    known = [_with_crs(part, groups) for part in parts]
    rasters: dict[str, Hint] = {}
    lacking = [part.name for part in known if part.crs is None]
    for group in groups:
        if group.crs is None:
            hint = _crs_under(group, known)
            more = f" and {len(group.files) - 1} more rasters" if len(group.files) > 1 else ""
            if hint is None:
                lacking.append(group.files[0].name + more)
            else:
                rasters[str(group.files[0])] = hint
    unknown = [part for part in known if part.crs is None]
    hints = hints_of_texts(texts) if lacking else []
    if unknown:
        per_km = any(part.table.place is not None and part.table.place.per_km for part in unknown)
        hints += hints_of_numbers(np.concatenate([part.points for part in unknown]), per_km=per_km)
    first = {hint.crs: hint for hint in reversed(hints)}  # of several on one projection, what was said first
    proposed = tuple(hint for hint in hints if first[hint.crs] is hint)
    return Projections(known, rasters, tuple(lacking), proposed)


def _with_crs(part: Part, groups: list[RasterGroup]) -> Part:
    place = part.table.place
    if place is not None and place.kind == "geometry":
        return replace(part, crs=part.table.sample.crs)
    hint = crs_of_column(part.table)
    if hint is None and place is not None and place.kind == "lon":
        hint = Hint(DEGREES, "the numbers are degrees; WGS 84 unless you know better")
    if hint is None and not (place is not None and place.per_km):
        hint = crs_of_rasters(part.points, groups)
    return part if hint is None else replace(part, crs=hint.crs, why_crs=hint.why)


def _crs_under(group: RasterGroup, parts: list[Part]) -> Hint | None:
    """Return the projection of the places that lie in rasters which name none."""
    west, south, east, north = group.bounds
    is_degrees = west >= -180 and east <= 360 and south >= -90 and north <= 90
    for part in parts:
        if part.crs is not None and (part.crs != DEGREES or is_degrees) and share_inside(part.points, group) >= INSIDE:
            return Hint(part.crs, f"the file names none; the places of {part.name} lie in it, so it is theirs")
    return None


# ---- covariates that tables and rasters have ---------------------------------------------------------------


def share_with_rasters(
    parts: list[Part], groups: list[RasterGroup], rasters: Mapping[str, Hint], remarks: list[str]
) -> tuple[list[Part], list[UnitNote]]:
    """Return the parts with their covariates, but for those that a raster has too, whose units are compared.

    Covariates of records are taken only if there are no rasters and all tables of records have them: random places,
    which records are compared with, have values of rasters alone.
    """
    layers = {name: found[0] for name, found in names_seen(groups).items()}
    made: list[Part] = []
    units: list[UnitNote] = []
    records = [set(part.table.covariates) for part in parts if part.table.kind == "records"]
    shared = set.intersection(*records) if records and not layers else set()
    for part in parts:
        try:
            same = same_names(part.table, list(layers))
            units += _compared(part, [layers[name] for name in same], rasters)
        except TableError as error:
            remarks.append(str(error))
            same = {}
        twins = [column for column in part.table.covariates if column in same.values()]
        offered = [(column, "a raster of this name has it for every place") for column in twins]
        kept = [column for column in part.table.covariates if column not in twins]
        if part.table.kind == "records":
            why = "random places have values of rasters only" if layers else "not all tables of records have it"
            offered += [(column, why) for column in kept if column not in shared]
            kept = [column for column in kept if column in shared]
        made.append(replace(part, covariates=tuple(kept), offered=tuple(offered)))
    return made, units


def _compared(part: Part, layers: list[RasterLayer], rasters: Mapping[str, Hint]) -> list[UnitNote]:
    """Return the layers that are in another unit than the columns of a table."""
    if part.crs is None or not layers:
        return []
    opened: list[Layer] = []
    for layer in layers:
        hint = rasters.get(str(layer.file))
        crs = layer.crs or (hint.crs if hint else None)
        if crs is not None:
            config = RasterConfig(file=layer.path, bands=(layer.band,), names=(layer.name,), crs=crs, categorical=False)
            opened += open_layers([config], Path())
    return compare_units_of(part.table, part.crs, opened)
