"""What can be worked out about a record from what is known of it: season, country, region, local effort."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from pyproj import CRS
from rasterio.features import rasterize
from rasterio.transform import from_origin
from rasterio.warp import transform_geom

from releve.errors import TableError
from releve.geo import grid_cells
from releve.ingest.reference import CELLS_PER_DEG, Cells, country_names
from releve.ingest.rows import OCCURRENCE_SCHEMA

REGIONS_FILES = [f"{above}BiogeographicalRegions/*.geojson" for above in ("", "*/", "*/*/")]
"""Not deeper, where a release may have millions of files."""
REGIONS = (
    *("ALPINE", "ANATOLIAN", "ARCTIC", "ATLANTIC", "BLACKSEA", "BOREAL", "CONTINENTAL"),
    *("MACARONESIA", "MACARONESIAN", "MEDITERRANEAN", "PANNONIAN", "STEPPIC"),
)


DERIVED = ("country_filled", "region_filled", "day_of_year", "quarter", "log1p_cell_records")
"""Columns that are added; docs/metadata.md says what each means."""


class EnrichConfig(BaseModel):
    """How local effort is counted.

    Examples
    --------
    >>> EnrichConfig().cell_size_km
    10.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell_size_km: float = Field(10.0, gt=0, le=1000)
    """Side of the equal-area cells in which records are counted."""


def enrich_records(
    table: pl.DataFrame,
    config: EnrichConfig,
    *,
    regions: Path | None = None,
    effort_from: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Return the records, or surveys, with the columns of ``DERIVED``; same rows, same order.

    ``country`` and ``region`` are filled where they are null.

    Parameters
    ----------
    table
        ``OCCURRENCE_SCHEMA`` or ``SURVEY_SCHEMA``; columns may be absent, or all null, except lon and lat.
    config
        Cell size.
    regions
        GeoJSON of biogeographical regions, as ``find_regions`` finds it; without one a missing region stays null.
    effort_from
        The records whose effort is counted; by default the table itself.

    Raises
    ------
    TableError
        If coordinates are lacking, or the regions cannot be read.

    Examples
    --------
    >>> table = pl.DataFrame({"lon": [2.35221], "lat": [48.85661], "year": [2020], "month": [4], "day": [1]})
    >>> rich = enrich_records(table, EnrichConfig())
    >>> rich.select("country", "country_filled", "day_of_year", "quarter", "region").row(0)
    ('France', True, 92, 2, None)
    """
    lacking = [name for name in ("lon", "lat") if name not in table.columns]
    if lacking:
        raise TableError(f"the records lack columns {lacking}; they have {table.columns}")
    absent = [name for name in OCCURRENCE_SCHEMA if name not in table.columns]
    work = table.drop(name for name in DERIVED if name in table.columns)
    work = work.with_columns(pl.lit(None, dtype=OCCURRENCE_SCHEMA[name]).alias(name) for name in absent)
    lon, lat = (work[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("lon", "lat"))
    cells = Cells(lon, lat)
    work = _fill(work, "country", _names(country_names(), cells.country_codes(), work["country"].null_count()))
    names, codes = _region_codes(regions, cells) if regions else ((None,), np.zeros(len(work), np.uint8))
    work = _fill(work, "region", _names(names, codes, work["region"].null_count()))
    work = work.with_columns(_season())
    work = _with_effort(work, lon, lat, cells.valid, config, effort_from)
    own = [name for name in table.columns if name not in DERIVED]
    return work.select(*own, *(name for name in ("country", "region") if name not in own), *DERIVED)


def _fill(table: pl.DataFrame, column: str, values: pl.Series) -> pl.DataFrame:
    """Fill the missing values of a column, and say which were."""
    filled = pl.col(column).is_null() & pl.lit(values).is_not_null()
    return table.with_columns(pl.coalesce(column, pl.lit(values)).alias(column), filled.alias(f"{column}_filled"))


def _names(names: tuple[str | None, ...], codes: NDArray[np.uint8], num_wanted: int) -> pl.Series:
    if not num_wanted:
        return pl.Series([None] * len(codes), dtype=pl.String)
    return pl.Series(names, dtype=pl.String).gather(pl.Series(codes))


def _season() -> list[pl.Expr]:
    """Return day of the year and quarter, from the date or else from month and day."""
    month = pl.coalesce(pl.col("date").dt.month().cast(pl.Int32), pl.col("month"))
    day = pl.coalesce(pl.col("date").dt.day().cast(pl.Int32), pl.col("day"))
    year = pl.coalesce(pl.col("date").dt.year(), pl.col("year"))
    leap = ((year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))).fill_null(False).cast(pl.Int32)
    possible = month.is_between(1, 12) & day.is_between(1, 31)
    before = (275 * month).floordiv(9) - 30 - pl.when(month > 2).then(2 - leap).otherwise(0)
    return [
        pl.when(possible).then(before + day).cast(pl.Int16).alias("day_of_year"),
        pl.when(month.is_between(1, 12)).then((month - 1).floordiv(3) + 1).cast(pl.Int8).alias("quarter"),
    ]


def _with_effort(
    table: pl.DataFrame,
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    valid: NDArray[np.bool_],
    config: EnrichConfig,
    effort_from: pl.DataFrame | None,
) -> pl.DataFrame:
    """Add how many records there are in each row's cell; null where the place is not valid."""
    cell = source = _cell_of(lon, lat, valid, config.cell_size_km)
    if effort_from is not None:
        lon, lat = (effort_from[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("lon", "lat"))
        source = _cell_of(lon, lat, Cells(lon, lat).valid, config.cell_size_km)
    counts = source.drop_nulls().value_counts(name="records")
    found = table.select(cell=cell).join(counts, on="cell", how="left", maintain_order="left")
    effort = pl.when(pl.col("cell").is_not_null()).then(pl.col("records").fill_null(0).cast(pl.Float32).log1p())
    return table.hstack(found.select(effort.alias("log1p_cell_records")))


def _cell_of(
    lon: NDArray[np.float64], lat: NDArray[np.float64], valid: NDArray[np.bool_], cell_size_km: float
) -> pl.Series:
    """Return the number of each place's cell; null where the place is not valid."""
    cells = grid_cells(np.where(valid, lon, 0), np.where(valid, lat, 0), 1000 * cell_size_km)
    return pl.Series("cell", cells).set(pl.Series(~valid), None)


def find_regions(root: Path) -> Path | None:
    """Return the GeoJSON of biogeographical regions that a release ships, or None."""
    return next((file for pattern in REGIONS_FILES for file in sorted(Path(root).glob(pattern))), None)


def _region_codes(path: Path, cells: Cells) -> tuple[tuple[str | None, ...], NDArray[np.uint8]]:
    """Return the names of the codes, and the code of each place; 0 where there is no region."""
    names, west_col, north_row, raster = _burn_regions(
        Path(path), Path(path).stat().st_mtime_ns if Path(path).exists() else 0
    )
    row, col = cells.row - north_row, cells.col - west_col
    inside = cells.valid & (row >= 0) & (row < raster.shape[0]) & (col >= 0) & (col < raster.shape[1])
    codes = np.zeros(len(row), np.uint8)
    codes[inside] = raster[row[inside], col[inside]]
    return names, codes


@lru_cache(maxsize=2)
def _burn_regions(path: Path, changed_ns: int) -> tuple[tuple[str | None, ...], int, int, NDArray[np.uint8]]:
    """Return names by code, first column and row on the reference's grid, and the codes of the cells."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        features = [feature for feature in content["features"] if feature.get("geometry")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(
            f"cannot read the regions of {path}: {error}", expected="a GeoJSON FeatureCollection"
        ) from error
    labels = _region_names(features, path)
    crs = CRS.from_user_input(content.get("crs", {}).get("properties", {}).get("name", "OGC:CRS84"))
    shapes = [feature["geometry"] for feature in features]
    if not crs.is_geographic:
        shapes = [transform_geom(crs.to_wkt(), "OGC:CRS84", shape) for shape in shapes]
    names = (None, *sorted(set(labels)))
    west, south, east, north = _bounds(shapes)
    first_col, first_row = int((west + 180) * CELLS_PER_DEG), int((90 - north) * CELLS_PER_DEG)
    grid: dict[str, Any] = {
        "out_shape": (
            int((90 - south) * CELLS_PER_DEG) + 1 - first_row,
            int((east + 180) * CELLS_PER_DEG) + 1 - first_col,
        ),
        "transform": from_origin(
            first_col / CELLS_PER_DEG - 180, 90 - first_row / CELLS_PER_DEG, 1 / CELLS_PER_DEG, 1 / CELLS_PER_DEG
        ),
        "dtype": "uint8",
    }
    coded = [(shape, names.index(label)) for shape, label in zip(shapes, labels, strict=True)]
    centred, touched = rasterize(coded, **grid), rasterize(coded, all_touched=True, **grid)
    return names, first_col, first_row, np.where(centred > 0, centred, touched)


def _region_names(features: list[dict[str, Any]], path: Path) -> list[str]:
    """Return each feature's name, as the releases spell it, from the property that holds most known names."""
    best: list[str] = []
    properties = sorted({name for feature in features for name in feature.get("properties") or {}})
    for name in properties:
        values = [_spell(str((feature.get("properties") or {}).get(name))) for feature in features]
        if sum(value in REGIONS for value in values) > sum(value in REGIONS for value in best):
            best = values
    if not best:
        raise TableError(
            f"no property of {path} names biogeographical regions; it has {properties}", expected=f"one of {REGIONS}"
        )
    return best


def _spell(text: str) -> str:
    """Return a region's name as the releases spell it.

    Examples
    --------
    >>> [_spell(text) for text in ("alpine", "blackSea", "Black Sea Bio-geographical Region")]
    ['ALPINE', 'BLACKSEA', 'BLACKSEA']
    """
    letters = "".join(letter for letter in text.upper() if letter.isalpha())
    return letters.removesuffix("REGION").removesuffix("BIOGEOGRAPHICAL")


def _bounds(shapes: list[dict[str, Any]]) -> tuple[float, float, float, float]:
    rings = [ring for shape in shapes for polygon in _polygons(shape) for ring in polygon]
    points = np.concatenate([np.asarray(ring, float)[:, :2] for ring in rings])
    low, high = np.maximum(points.min(axis=0), (-180, -90)), np.minimum(points.max(axis=0), (180, 90))
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _polygons(shape: dict[str, Any]) -> list[Any]:
    return [shape["coordinates"]] if shape["type"] == "Polygon" else list(shape["coordinates"])
