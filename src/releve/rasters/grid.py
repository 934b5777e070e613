"""The grid of a raster: where on Earth its cells lie, how large they are, and in which blocks they are stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Geod, Transformer
from rasterio.transform import rowcol


@dataclass(frozen=True)
class Grid:
    """Rows and columns of cells on the ground."""

    crs: str
    """EPSG:4326 and the like, or WKT."""
    transform: tuple[float, float, float, float, float, float]
    """x = a * column + b * row + c, y = d * column + e * row + f, at a cell's upper left corner."""
    height: int
    width: int
    block_height: int
    block_width: int
    """Of the blocks that the file is compressed in: tiles, or strips as wide as the raster."""

    @property
    def affine(self) -> Affine:
        """The transform, as rasterio takes it."""
        return Affine(*self.transform)

    @property
    def blocks_across(self) -> int:
        """Number of blocks side by side."""
        return -(-self.width // self.block_width)


@dataclass(frozen=True)
class Located:
    """Places on a grid: (N,) arrays."""

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    """The cell that holds the place; -1 where it lies outside."""
    row_positions: NDArray[np.float64]
    column_positions: NDArray[np.float64]
    """Rows and columns with fractions: 0.5 is the centre of the first cell; NaN outside."""

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Whether a place lies on the grid."""
        return self.rows >= 0


def select_places(at: Located, which: NDArray[np.int64] | slice) -> Located:
    """Return some of the places."""
    return Located(at.rows[which], at.columns[which], at.row_positions[which], at.column_positions[which])


def locate(grid: Grid, x: NDArray[np.float64], y: NDArray[np.float64], *, geographic: bool | None = None) -> Located:
    """Return where places lie on a grid.

    Parameters
    ----------
    grid
        The grid.
    x, y
        (N,) coordinates in the grid's CRS; not finite where there is none. Of degrees, 360 more or less are the same.
    """
    if is_geographic(grid.crs):
        x = _wrapped(grid, x)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = np.where(known, x, 0.0), np.where(known, y, 0.0)
    row, column = rowcol(grid.affine, x, y, op=np.floor)
    inside = known & (row >= 0) & (row < grid.height) & (column >= 0) & (column < grid.width)
    a, b, c, d, e, f = (~grid.affine)[:6]
    return Located(
        np.where(inside, row, -1).astype(np.int32),
        np.where(inside, column, -1).astype(np.int32),
        np.where(inside, d * x + e * y + f, np.nan),
        np.where(inside, a * x + b * y + c, np.nan),
    )


def _wrapped(grid: Grid, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return longitudes as the grid counts them: 350 for -10 where it goes from 0 to 360."""
    a, b, c, *_ = grid.transform
    west = min(c, c + a * grid.width) + min(0.0, b * grid.height)
    east = max(c, c + a * grid.width) + max(0.0, b * grid.height)
    x = np.where((x < west) & (x + 360 <= east), x + 360, x)
    return np.where((x > east) & (x - 360 >= west), x - 360, x)


def project_places(lon: NDArray[np.float64], lat: NDArray[np.float64], crs: str) -> tuple[NDArray, NDArray]:
    """Return (N,) x and y of places in a CRS; not finite where it cannot hold them.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = project_places(np.array([10.0]), np.array([52.0]), "EPSG:3035")
    >>> x.round().tolist(), y.round().tolist()
    ([4321000.0], [3210000.0])
    """
    if _parsed(crs) == _parsed("EPSG:4326"):
        return lon, lat
    return Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)


@lru_cache(maxsize=256)
def _parsed(crs: str) -> CRS:
    return CRS.from_user_input(crs)


def is_geographic(crs: str) -> bool:
    """Return whether coordinates are degrees."""
    return _parsed(crs).is_geographic


@lru_cache(maxsize=64)
def cell_sizes_m(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the metres on the ground from a cell to the next: along the row, and along the column, for each row.

    Of degrees, and of Mercator's metres, they depend on the latitude: they are measured on the ellipsoid at the middle
    of each row. Other projections' metres are taken as true.

    Examples
    --------
    >>> grid = Grid("EPSG:4326", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 61, 2, 1, 2)
    >>> across, along = cell_sizes_m(grid)
    >>> across[[0, 60]].round().tolist(), along[[0, 60]].round().tolist()
    ([111315.0, 54955.0], [110574.0, 111421.0])
    """
    crs, affine = _parsed(grid.crs), grid.affine
    across = np.hypot(affine.a, affine.d) * np.ones(grid.height)
    along = np.hypot(affine.b, affine.e) * np.ones(grid.height)
    mercator = "Mercator" in (crs.coordinate_operation.method_name if crs.coordinate_operation else "")
    if not crs.is_geographic and not (mercator and "Transverse" not in crs.coordinate_operation.method_name):  # type: ignore[union-attr]
        factor = crs.axis_info[0].unit_conversion_factor
        return across * factor, along * factor
    middle = np.arange(grid.height) + 0.5
    ends = {}
    for name, row, column in (("w", 0, -0.5), ("e", 0, 0.5), ("n", -0.5, 0), ("s", 0.5, 0)):
        at = grid.width / 2 + column
        x, y = (
            affine.a * at + affine.b * (middle + row) + affine.c,
            affine.d * at + affine.e * (middle + row) + affine.f,
        )
        if not crs.is_geographic:
            x, y = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
        ends[name] = x, np.clip(y, -90, 90)
    geod = Geod(ellps="WGS84")
    return geod.inv(*ends["w"], *ends["e"])[2], geod.inv(*ends["n"], *ends["s"])[2]


def locate_all(grids: Iterable[Grid], lon: NDArray[np.float64], lat: NDArray[np.float64]) -> dict[Grid, Located]:
    """Return places, in degrees (EPSG:4326), on each of several grids; they are projected once for each CRS."""
    grids = list(dict.fromkeys(grids))
    projected = {crs: project_places(lon, lat, crs) for crs in dict.fromkeys(grid.crs for grid in grids)}
    return {grid: locate(grid, *projected[grid.crs]) for grid in grids}
