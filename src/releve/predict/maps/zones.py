"""Polygons that a map is summed up by, such as parks, districts or habitats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError
from pyproj import CRS, Geod, Transformer
from shapely.geometry.polygon import orient

from releve.errors import RasterError
from releve.predict.maps.coverage import Outline, outline_of
from releve.predict.maps.region import SEGMENT_DEG
from releve.rasters.grid import Grid

SEGMENT_M = 5_000.0
"""Edges of projected polygons are cut this short before they are projected otherwise."""
MOST_SEGMENTS = 100_000
"""Into which a line around a polygon is cut."""


@dataclass(frozen=True)
class Zones:
    """Polygons of a file, in its order, as they lie on a grid."""

    outlines: tuple[Outline, ...]
    areas_km2: NDArray[np.float64]
    """Of the whole polygons, on the ellipsoid."""
    attributes: dict[str, NDArray[Any]]
    """Columns of the file."""
    shapes: NDArray[Any]
    """As WKB, as the file has them."""
    crs: str | None
    num_empty: int
    """Rows without a polygon: they cover nothing."""
    num_mended: int
    """Polygons that cross themselves."""


def read_zones(file: Path, grid: Grid) -> Zones:
    """Return the polygons of a file; what crosses itself is mended.

    Parameters
    ----------
    file
        A GeoPackage, GeoJSON, shapefile or anything else with polygons that GDAL reads; of any CRS, and in degrees if
        it names none.
    grid
        Of the map.

    Raises
    ------
    RasterError
        If it cannot be read, holds no polygon, or has coordinates that are no place on Earth.
    """
    try:
        meta, _, wkb, columns = pyogrio.raw.read(file)
    except (DataSourceError, ValueError, OSError) as error:
        raise RasterError(
            f"zones {file} cannot be read ({str(error)[:200]})", expected="polygons, as a GeoPackage or GeoJSON"
        ) from error
    shapes = shapely.from_wkb(wkb)
    valid = shapely.is_valid(shapes) | shapely.is_missing(shapes)
    shapes[~valid] = shapely.make_valid(shapes[~valid])
    polygons = [_polygons_of(shape) for shape in shapes]
    empty = [polygon.is_empty for polygon in polygons]
    if all(empty):
        raise RasterError(f"zones {file} holds {len(shapes)} shapes and no polygon", expected="one polygon or several")
    crs = meta.get("crs")
    on_grid = [_projected(polygon, crs, grid.crs) for polygon in polygons]
    if not all(np.isfinite(shapely.bounds(each)).all() for each in on_grid if not each.is_empty):
        raise RasterError(
            f"zones {file} reach where {grid.crs[:30]} has no place",
            expected="degrees, or a file that names its coordinate system",
        )
    return Zones(
        tuple(outline_of(polygon, grid) for polygon in on_grid),
        np.array([_area_km2(polygon, crs) for polygon in polygons]),
        dict(zip([str(name) for name in meta["fields"]], columns, strict=True)),
        wkb,
        crs,
        sum(empty),
        int((~valid).sum()),
    )


def _polygons_of(shape: shapely.Geometry | None) -> shapely.Geometry:
    """Return the polygons of a shape as one."""
    parts = shapely.get_parts(shapely.get_parts(shape)) if shape is not None else []
    return shapely.union_all([part for part in parts if shapely.get_type_id(part) == 3])


def _projected(polygon: shapely.Geometry, crs: str | None, to: str) -> shapely.Geometry:
    """Return a polygon in another CRS, its edges cut short first: what is straight here is bent there.

    What has no place on Earth becomes a point that is not finite.
    """
    source = CRS.from_user_input(crs or "EPSG:4326")
    if polygon.is_empty or source == CRS.from_user_input(to):
        return polygon
    west, south, east, north = shapely.bounds(polygon)
    if source.is_geographic and not (max(-west, east) <= 540 and max(-south, north) <= 90 + 1e-6):
        return shapely.Point(np.inf, np.inf)
    move = Transformer.from_crs(source, to, always_xy=True)
    longest = SEGMENT_DEG if source.is_geographic else SEGMENT_M
    cut = shapely.segmentize(polygon, max(longest, (east - west + north - south) / MOST_SEGMENTS))
    moved = shapely.transform(cut, lambda xy: np.column_stack(move.transform(xy[:, 0], xy[:, 1])))
    if not np.isfinite(shapely.bounds(moved)).all():
        return moved
    return moved if shapely.is_valid(moved) else _polygons_of(shapely.make_valid(moved))


def _area_km2(polygon: shapely.Geometry, crs: str | None) -> float:
    """Return the area of a polygon on the ellipsoid."""
    if polygon.is_empty:
        return 0.0
    geod, parts = Geod(ellps="WGS84"), shapely.get_parts(_projected(polygon, crs, "EPSG:4326"))
    return sum(geod.geometry_area_perimeter(orient(part))[0] for part in parts) / 1e6
