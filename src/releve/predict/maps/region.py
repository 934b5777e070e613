"""A region of the user's: polygons in, and which cells of a tile have their centre in them out."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError
from pyproj import CRS, Transformer
from rasterio.features import rasterize

from releve.errors import RasterError
from releve.predict.maps.grid import Bounds, Tile
from releve.rasters.grid import Grid, is_geographic

SEGMENT_DEG = 0.05
"""Edges are cut this short before they are projected: a straight line of degrees is bent elsewhere."""


def read_region(file: Path) -> shapely.Geometry:
    """Return the union of a file's polygons, in degrees (EPSG:4326); what crosses itself is mended.

    Parameters
    ----------
    file
        A GeoPackage, GeoJSON, shapefile or anything else with polygons that GDAL reads.

    Raises
    ------
    RasterError
        If it cannot be read, or holds no polygon on Earth.
    """
    try:
        meta, _, geometry, _ = pyogrio.raw.read(file, columns=[])
    except (DataSourceError, ValueError, OSError) as error:
        raise RasterError(
            f"region {file} cannot be read ({str(error)[:200]})", expected="polygons, as a GeoPackage or GeoJSON"
        ) from error
    shapes = shapely.from_wkb([wkb for wkb in geometry if wkb is not None]) if geometry is not None else np.array([])
    if not np.isfinite(shapely.get_coordinates(shapes)).all():
        raise RasterError(f"region {file} has coordinates that are no numbers", expected="polygons on Earth")
    areas = _polygons_of(shapes)
    if not areas:
        raise RasterError(f"region {file} holds {len(shapes)} shapes and no polygon", expected="one polygon or several")
    whole = _in_degrees(shapely.union_all(areas) if len(areas) > 1 else areas[0], meta.get("crs"))
    west, south, east, north = shapely.bounds(whole)
    if not (np.isfinite([west, south, east, north]).all() and max(-west, east) <= 360 and -90 <= south <= north <= 90):
        raise RasterError(
            f"region {file} reaches from {west:g}, {south:g} to {east:g}, {north:g}",
            expected="degrees, or a file that names its coordinate system",
        )
    return whole


def _polygons_of(shapes: NDArray) -> list[shapely.Polygon]:
    """Return the polygons of shapes, mended where they are not valid."""
    parts = list(shapes)
    for _ in range(2):  # mending may make collections of what collections held
        parts = [part if shapely.is_valid(part) else shapely.make_valid(part) for part in parts]
        parts = list(shapely.get_parts(shapely.get_parts(np.array(parts, object)))) if parts else []
    return [part for part in parts if shapely.get_type_id(part) == 3 and not shapely.is_empty(part)]


def _in_degrees(shape: shapely.Geometry, crs: str | None) -> shapely.Geometry:
    if not crs or CRS.from_user_input(crs) == CRS.from_epsg(4326):
        return shape
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return shapely.transform(shape, lambda xy: np.column_stack(to_degrees.transform(xy[:, 0], xy[:, 1])))


def bounds_of_region(region: shapely.Geometry) -> Bounds:
    """Return the bounds of a region, in degrees; one with parts on both sides of the antimeridian reaches across it.

    Examples
    --------
    >>> bounds_of_region(shapely.MultiPolygon([shapely.box(178, -20, 180, -15), shapely.box(-180, -20, -179, -15)]))
    Bounds(west=178.0, south=-20.0, east=-179.0, north=-15.0)
    """
    west, south, east, north = map(float, shapely.bounds(region))
    parts = shapely.bounds(shapely.get_parts(region))
    if west <= -179.9999 and east >= 179.9999 and len(parts) > 1:
        # The widest gap between parts is what the bounds leave out.
        order = np.argsort(parts[:, 0])
        reach = np.maximum.accumulate(parts[order, 2])
        gaps = parts[order[1:], 0] - reach[:-1]
        if len(gaps) and gaps.max() > 1:
            at = int(gaps.argmax())
            return Bounds(float(parts[order[at + 1], 0]), south, float(reach[at]), north)
    if east - west >= 360:
        return Bounds(-180.0, south, 180.0, north)
    if west < -180 or east > 180:  # degrees that count on beyond the antimeridian
        west, east = ((degree + 180) % 360 - 180 if abs(degree) > 180 else degree for degree in (west, east))
    return Bounds(west, south, east, north)


@lru_cache(maxsize=4)
def region_on(file: str, crs: str, state: str = "") -> shapely.Geometry:
    """Return the region kept in a file of WKB, in a grid's CRS, prepared once a process and state of the file."""
    region = shapely.from_wkb(Path(file).read_bytes())
    if is_geographic(crs):
        return region
    project = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    cut = shapely.segmentize(region, SEGMENT_DEG)
    moved = shapely.transform(cut, lambda xy: np.column_stack(project.transform(xy[:, 0], xy[:, 1])))
    return shapely.make_valid(moved)


def cells_inside(region: shapely.Geometry, grid: Grid, tile: Tile) -> NDArray[np.bool_]:
    """Return (height, width) whether the centre of each of a tile's cells lies in a region of the grid's CRS."""
    a, _, c, _, e, f = grid.transform
    west, first = c + a * tile.column, f + e * tile.row
    east, last = west + a * tile.width, first + e * tile.height
    inside = np.zeros((tile.height, tile.width), bool)
    box = shapely.box(west, min(first, last), east, max(first, last))
    for turn in (0.0, 360.0, -360.0) if is_geographic(grid.crs) else (0.0,):
        moved = shapely.transform(box, lambda xy, turn=turn: xy + [turn, 0.0])  # the tile is moved, not the region
        if not shapely.box(*shapely.bounds(region)).intersects(moved):
            continue
        part = shapely.clip_by_rect(region, *shapely.bounds(moved))
        parts = [shape for shape in shapely.get_parts(part) if shapely.get_dimensions(shape) == 2]
        if not parts:
            continue
        transform = Affine(a, 0.0, west + turn, 0.0, e, first)
        inside |= rasterize(parts, out_shape=inside.shape, transform=transform, dtype="uint8").astype(bool)
    return inside
