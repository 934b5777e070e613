"""Small reference data that is shipped: land and countries of the world, centroids of countries, capitals.

``countries.tif``: code of the country of each cell of 1/60 degree (1.9 km of latitude), 0 where no land touches the
cell; ``countries.csv``: their names; ``places.csv``: centroids and capitals. ``README.md`` has sources and licences.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from releve.errors import TableError
from releve.geo import EARTH_RADIUS_KM, nearest_km
from releve.ingest.names import fold

FOLDER = Path(__file__).parent
CELLS_PER_DEG = 60
NUM_ROWS, NUM_COLS = 180 * CELLS_PER_DEG, 360 * CELLS_PER_DEG
TILE_PX = 720
TILES_DOWN, TILES_ACROSS = NUM_ROWS // TILE_PX, NUM_COLS // TILE_PX
MAX_TILES_CACHED = 96
CELL_KM = np.pi * EARTH_RADIUS_KM / NUM_ROWS
"""North-south side of a cell."""
COARSE_PER_DEG = 10
UNKNOWN = 255
"""Code of islands whose country is not known."""
# Names that other tables use for what ``countries.csv`` calls otherwise; case and accents do not matter.
ALIASES = {
    "czechia": "Czech Republic",
    "macedonia": "North Macedonia",
    "the former yugoslav republic of macedonia": "North Macedonia",
    "turkiye": "Turkey",
    "russian federation": "Russia",
    "great britain": "United Kingdom",
    "uk": "United Kingdom",
    "usa": "United States of America",
    "united states": "United States of America",
    "republic of moldova": "Moldova",
    "the netherlands": "Netherlands",
    "aland islands": "Åland",
    "faeroe islands": "Faroe Islands",
}


@lru_cache(maxsize=1)
def country_names() -> tuple[str | None, ...]:
    """Return the name of each code of the raster; None for 0, no land, and for ``UNKNOWN``.

    The names are Natural Earth's, written out in full, with the releases' own "Czech Republic" for Czechia.
    """
    names: list[str | None] = [None] * (UNKNOWN + 1)
    for code, name in pl.read_csv(FOLDER / "countries.csv", glob=False).select("code", "name").rows():
        names[code] = name
    return tuple(names)


@lru_cache(maxsize=1)
def _codes_of_names() -> dict[str, int]:
    """Return the code of each folded name, alias and ISO code; of countries with one ISO code, the largest has it."""
    table = pl.read_csv(FOLDER / "countries.csv", glob=False).sort("area_km2", descending=False)
    codes = {iso: code for name in ("iso2", "iso3") for iso, code in table.select(name, "code").drop_nulls().rows()}
    codes |= dict(table.select("name", "code").rows()) | {"UK": codes["GB"]}
    codes |= {alias: codes[name] for alias, name in ALIASES.items()}
    return {fold(name): code for name, code in codes.items()}


@lru_cache(maxsize=4)
def read_places(kind: str) -> pl.DataFrame:
    """Return name, lon, lat (degrees) of the places of a kind: ``centroid`` or ``capital``."""
    return pl.read_csv(FOLDER / "places.csv", glob=False).filter(pl.col("kind") == kind).drop("kind")


def read_institutions(path: Path) -> pl.DataFrame:
    """Return lon, lat (degrees) of the institutions of a CSV table.

    Raises
    ------
    TableError
        If the file cannot be read, or lacks a column.
    """
    try:
        table = pl.read_csv(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise TableError(f"cannot read the institutions of {path}: {error}") from error
    lacking = [name for name in ("lon", "lat") if name not in table.columns]
    if lacking:
        raise TableError(f"{path} lacks columns {lacking}; it has {table.columns}")
    return table.select(pl.col("lon", "lat").cast(pl.Float64, strict=False)).drop_nulls()


def country_code_of(names: pl.Series) -> NDArray[np.int16]:
    """Return the code of each country's name, alias or ISO 3166 code of letters; -1 where it is null or unknown.

    Case and accents do not matter.

    Examples
    --------
    >>> codes = country_code_of(pl.Series(["France", "czechia", "CZ", "Atlantis", None]))
    >>> bool(codes[1] == codes[2]), codes[3:].tolist(), country_names()[codes[0]]
    (True, [-1, -1], 'France')
    """
    codes = _codes_of_names()
    different = names.unique().to_list()
    known = [-1 if name is None else codes.get(fold(name), -1) for name in different]
    table = pl.DataFrame({"name": different, "code": known}, schema={"name": pl.String, "code": pl.Int16})
    found = names.to_frame("name").join(table, on="name", how="left", nulls_equal=True, maintain_order="left")
    return found["code"].fill_null(-1).to_numpy()


@lru_cache(maxsize=MAX_TILES_CACHED)
def _read_tile(row: int, col: int) -> NDArray[np.uint8]:
    """Return one tile of 12 x 12 degrees; columns wrap round the globe, beyond the poles is no land."""
    if not 0 <= row < TILES_DOWN:
        return np.zeros((TILE_PX, TILE_PX), np.uint8)
    with rasterio.open(FOLDER / "countries.tif") as source:
        window = Window(col % TILES_ACROSS * TILE_PX, row * TILE_PX, TILE_PX, TILE_PX)
        return source.read(1, window=window)


class Cells:
    """The raster's cells of many places, sorted by tile once so that each tile is read once.

    Parameters
    ----------
    lon, lat
        (N,) degrees. Places that are not finite, or off the globe, have no cell.
    """

    def __init__(self, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> None:
        with np.errstate(invalid="ignore"):
            self.valid = (np.abs(lon) <= 180) & (np.abs(lat) <= 90)
        lon, lat = np.where(self.valid, lon, 0.0), np.where(self.valid, lat, 0.0)
        self.col = ((lon + 180) * CELLS_PER_DEG).astype(np.int32) % NUM_COLS
        self.row = np.clip(((90 - lat) * CELLS_PER_DEG).astype(np.int32), 0, NUM_ROWS - 1)
        tiles = (self.row // TILE_PX * TILES_ACROSS + self.col // TILE_PX).astype(np.int16)
        self._order = np.argsort(tiles, kind="stable")
        counts = np.bincount(tiles, minlength=TILES_DOWN * TILES_ACROSS)
        self._ends = np.cumsum(counts)
        self._visited = np.flatnonzero(counts)

    def _of_tiles(self) -> list[tuple[int, int, NDArray[np.int64]]]:
        """Return (tile row, tile column, places) of each tile that has places."""
        starts = np.concatenate([[0], self._ends])
        return [
            (int(tile) // TILES_ACROSS, int(tile) % TILES_ACROSS, self._order[starts[tile] : starts[tile + 1]])
            for tile in self._visited
        ]

    def country_codes(self) -> NDArray[np.uint8]:
        """Return (N,) codes of ``country_names``; 0 where no land touches the cell, or there is no cell."""
        codes = np.zeros(len(self.row), np.uint8)
        for tile_row, tile_col, places in self._of_tiles():
            tile = _read_tile(tile_row, tile_col)
            codes[places] = tile[self.row[places] - tile_row * TILE_PX, self.col[places] - tile_col * TILE_PX]
        codes[~self.valid] = 0
        return codes

    def far_from(
        self, wanted: NDArray[np.int16] | None, among: NDArray[np.bool_], radius_km: float
    ) -> NDArray[np.bool_]:
        """Return which places have no cell of a country, or of any land, within a radius.

        The distance is that between the edges of two cells, so a place is never called far if it is within the
        radius, and always if it is 5.3 km beyond it.

        Parameters
        ----------
        wanted
            (N,) code that is looked for; None looks for any land.
        among
            (N,) places to look at; the others are not far.
        radius_km
            At most 50 km.
        """
        far = np.zeros(len(self.row), bool)
        for tile_row, tile_col, places in self._of_tiles():
            asked = places[among[places] & self.valid[places]]
            if len(asked):
                code = np.zeros(len(asked), np.int64) if wanted is None else wanted[asked].astype(np.int64)
                key = (code << 40) | (self.row[asked].astype(np.int64) << 20) | self.col[asked]
                different, back = np.unique(key, return_inverse=True)
                far[asked] = _is_far(different, tile_row, tile_col, radius_km, any_land=wanted is None)[back]
        return far


def _is_far(
    key: NDArray[np.int64], tile_row: int, tile_col: int, radius_km: float, *, any_land: bool
) -> NDArray[np.bool_]:
    """Return which (code, row, column) of one tile have no such cell within a radius; nearest cells are tried first."""
    around = [[_read_tile(tile_row + i, tile_col + j) for j in (-1, 0, 1)] for i in (-1, 0, 1)]
    codes = np.block(around)
    wanted, row, col = key >> 40, (key >> 20) & 0xFFFFF, key & 0xFFFFF
    width_km = CELL_KM * np.cos(np.radians(90 - (row + 0.5) / CELLS_PER_DEG))
    row, col = row - (tile_row - 1) * TILE_PX, col - (tile_col - 1) * TILE_PX
    reach_down = int(radius_km / CELL_KM) + 1
    reach_across = min(int(radius_km / max(width_km.min(), 1e-6)) + 1, TILE_PX)
    offsets = [(i, j) for i in range(-reach_down, reach_down + 1) for j in range(-reach_across, reach_across + 1)]
    left = np.arange(len(key))
    for i, j in sorted(offsets, key=lambda offset: offset[0] ** 2 + offset[1] ** 2):
        gap_km = np.hypot(max(abs(i) - 1, 0) * CELL_KM, max(abs(j) - 1, 0) * width_km[left])
        there = codes[row[left] + i, col[left] + j]
        found = (gap_km <= radius_km) & ((there > 0) if any_land else (there == wanted[left]))
        left = left[~found]
        if not len(left):
            break
    far = np.zeros(len(key), bool)
    far[left] = True
    return far


def near_places(
    lon: NDArray[np.float64], lat: NDArray[np.float64], places: pl.DataFrame, radius_km: float
) -> NDArray[np.bool_]:
    """Return which of many points lie within a radius of any of a few places.

    A grid of 0.1 degree that marks the surroundings of the places leaves only few points to measure.

    Parameters
    ----------
    lon, lat
        (N,) degrees, finite.
    places
        Columns lon, lat, in degrees.
    radius_km
        Great-circle distance.

    Examples
    --------
    >>> places = pl.DataFrame({"lon": [2.0, 180.0], "lat": [46.0, 10.0]})
    >>> near_places(np.array([2.001, 2.5, -179.999]), np.array([46.0, 46.0, 10.0]), places, 1.0).tolist()
    [True, False, True]
    """
    near = np.zeros(len(lon), bool)
    if not len(places) or not len(lon):
        return near
    to_lon, to_lat = places["lon"].to_numpy(), places["lat"].to_numpy()
    marked = _surroundings(to_lon.tobytes(), to_lat.tobytes(), radius_km)
    row = np.clip(((90 - lat) * COARSE_PER_DEG).astype(np.int32), 0, marked.shape[0] - 1)
    col = ((lon + 180) * COARSE_PER_DEG).astype(np.int32) % marked.shape[1]
    maybe = np.flatnonzero(marked[row, col])
    near[maybe] = nearest_km(lon[maybe], lat[maybe], to_lon, to_lat) <= radius_km
    return near


@lru_cache(maxsize=4)
def _surroundings(lon: bytes, lat: bytes, radius_km: float) -> NDArray[np.bool_]:
    """Return the cells of 0.1 degree that may hold a point within a radius of any of the places (float64)."""
    marked = np.zeros((180 * COARSE_PER_DEG, 360 * COARSE_PER_DEG), bool)
    reach_deg = np.degrees(radius_km / EARTH_RADIUS_KM)
    for place_lon, place_lat in zip(np.frombuffer(lon), np.frombuffer(lat), strict=True):
        south, north = place_lat - reach_deg, place_lat + reach_deg
        polar = max(abs(south), abs(north)) >= 89
        across = 180.0 if polar else reach_deg / np.cos(np.radians(max(abs(south), abs(north))))
        rows = slice(max(_coarse(90 - north), 0), _coarse(90 - south) + 1)
        cols = np.arange(_coarse(place_lon + 180 - across), _coarse(place_lon + 180 + across) + 1)
        marked[rows, cols % marked.shape[1]] = True
    return marked


def _coarse(degrees: float) -> int:
    return int(np.floor(degrees * COARSE_PER_DEG))
