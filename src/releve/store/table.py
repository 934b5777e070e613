"""A store in memory from a user's own table of places."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

import releve
from releve.errors import TableError
from releve.ingest.covariates import mask_values
from releve.lists import Lists
from releve.progress import console
from releve.store.read import Store, StoredArray
from releve.store.schema import STORE_FORMAT, ArraySpec, Manifest

REQUIRED_COLUMNS = ("surveyId", "lon", "lat")
OPTIONAL_COLUMNS = {
    "year": ("year", pl.Int32),
    "month": ("month", pl.Int32),
    "country": ("country", pl.String),
    "region": ("region", pl.String),
    "areaInM2": ("area_m2", pl.Float64),
    "geoUncertaintyInM": ("uncertainty_m", pl.Float64),
}
MISSING = ("", "NA", "NaN", "nan", "null")
"""What R, pandas and others write for a missing value."""


def read_table_store(file: Path, covariates: tuple[str, ...], *, bounds: Mapping[str, float] | None = None) -> Store:
    """Return a store of the surveys in a ``.csv`` or ``.parquet`` table, kept in memory.

    Parameters
    ----------
    file
        Table with ``surveyId``, ``lon``, ``lat`` (degrees), any of ``year, month, country, region, areaInM2,
        geoUncertaintyInM``, and covariates.
    covariates
        Covariate columns to look for, under their official names; one that the table lacks is missing, and said.
        Impossible values, such as 65535 or -9999, are masked as in a release, and counted on the console.
    bounds
        ``west``, ``south``, ``east``, ``north`` of the places a model was trained on, to find lon and lat exchanged.

    Raises
    ------
    TableError
        If a needed column is missing, an id is repeated or no integer, a coordinate is out of range, lon and lat
        are exchanged, or a column of numbers holds words.
    """
    raw = _read(Path(file))
    surveys = raw.select(
        _numbers(raw, "surveyId", file).alias("survey_id"),
        *(_numbers(raw, name, file) for name in ("lon", "lat")),
        *(_optional(raw, name, kind, file).alias(ours) for name, (ours, kind) in OPTIONAL_COLUMNS.items()),
    )
    _check(surveys, file)
    if bounds is not None:
        _refuse_swapped(surveys, file, bounds)
    surveys = surveys.with_columns(pl.col("survey_id").cast(pl.Int64), fold=pl.lit(-1, pl.Int8))
    values = _covariate_values(raw, covariates, file)
    present = np.isfinite(values).any(axis=1)
    arrays = {}
    if present.any():
        spec = ArraySpec(
            name="covariates",
            file="",
            dtype="float32",
            shape=(len(covariates),),
            num_rows=len(raw),
            fill=None,
            channels=covariates,
        )
        arrays["covariates"] = StoredArray(spec, values, np.where(present, np.arange(len(raw)), -1))
    manifest = Manifest(
        format=STORE_FORMAT,
        releve=releve.__version__,
        release="table",
        origin=str(file),
        recipe={},
        fingerprint="",
        seed=0,
        num_surveys=len(raw),
        num_species=0,
        num_folds=0,
        arrays={name: array.spec for name, array in arrays.items()},
        dropped={},
        problems=[],
        leakage=[],
        files={},
    )
    species = pl.DataFrame(schema={"species_index": pl.UInt32, "species_id": pl.Int64, "num_surveys": pl.UInt32})
    labels = Lists(np.zeros(len(raw) + 1, np.int64), np.zeros(0, np.int32))
    return Store(Path(file), manifest, surveys, species, labels, arrays)


def _covariate_values(raw: pl.DataFrame, covariates: tuple[str, ...], file: Path) -> NDArray[np.float32]:
    """Return (rows, covariates) values with NaN for those missing or impossible, and say how many there are."""
    absent = [name for name in covariates if name not in raw.columns]
    if absent:
        console.print(f"{file} lacks {len(absent)} of {len(covariates)} covariates, taken as missing: {_some(absent)}")
    values = np.full((len(raw), len(covariates)), np.nan, np.float32)
    masked = []
    for at, name in enumerate(covariates):
        if name in raw.columns:
            values[:, at], bad = mask_values(name, raw.select(_numbers(raw, name, file))[name].to_numpy())
            if bad.any():
                masked.append(f"{name} {int(bad.sum())}")
    if masked:
        console.print(f"{file} has impossible values in {len(masked)} covariates, taken as missing: {_some(masked)}")
    return values


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _read(file: Path) -> pl.DataFrame:
    if not file.is_file():
        raise TableError(f"no table at {file}")
    try:
        if file.suffix == ".parquet":
            raw = pl.read_parquet(file)
        else:
            _refuse_semicolons(file)
            raw = pl.read_csv(file, infer_schema=False, null_values=list(MISSING))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(
            f"{file} cannot be read: {str(error).splitlines()[0]}", expected="a CSV or parquet table"
        ) from error
    lacking = [name for name in REQUIRED_COLUMNS if name not in raw.columns]
    if lacking:
        raise TableError(
            f"{file} lacks columns {lacking}; it has {raw.columns[:12]}", expected=", ".join(REQUIRED_COLUMNS)
        )
    if len(raw) == 0:
        raise TableError(f"{file} has a header and no row", expected="one row a survey")
    return raw


def _refuse_semicolons(file: Path) -> None:
    """Refuse what Excel writes in half of Europe, where a decimal comma would be read as a border of columns."""
    with file.open(encoding="utf-8", errors="replace") as handle:
        header = handle.readline()
    if ";" in header and "," not in header:
        raise TableError(
            f"{file} separates its columns with semicolons",
            expected="commas, and decimal points",
            action="Save it as CSV with commas (in R: write.csv, not write.csv2)",
        )


def _numbers(raw: pl.DataFrame, name: str, file: Path) -> pl.Expr:
    """Return a column as Float64, NaN as null; words in it are an error, not a missing value."""
    number = pl.col(name).cast(pl.Float64, strict=False).fill_nan(None)
    words = raw.filter(pl.col(name).is_not_null() & pl.col(name).cast(pl.Float64, strict=False).is_null())[name]
    if len(words):
        raise TableError(
            f"{file}: {len(words)} values of {name} are no numbers, such as {words.head(3).to_list()}",
            expected="numbers with a decimal point, or nothing where a value is missing",
        )
    return number


def _optional(raw: pl.DataFrame, name: str, kind: type[pl.DataType], file: Path) -> pl.Expr:
    if name not in raw.columns:
        return pl.lit(None, kind)
    return pl.col(name).cast(pl.String) if kind == pl.String else _numbers(raw, name, file).cast(kind, strict=False)


def _check(surveys: pl.DataFrame, file: Path) -> None:
    ids = surveys["survey_id"]
    whole = (ids == ids.floor()) & ids.is_between(-(2**53), 2**53)
    num_bad = len(ids) - int(whole.fill_null(False).sum())
    num_repeated = len(ids) - ids.n_unique()
    if num_bad or num_repeated:
        raise TableError(
            f"{file}: surveyId has {num_bad} values that are no integers and {num_repeated} that are repeated, "
            f"in {len(ids)} rows",
            expected="one row a survey with an integer id of its own",
        )
    inside = pl.col("lon").is_between(-180, 180) & pl.col("lat").is_between(-90, 90)
    bad = surveys.filter(~inside.fill_null(False))
    if len(bad):
        some = [int(survey_id) for survey_id in bad["survey_id"].head(3)]
        raise TableError(
            f"{file}: {len(bad)} surveys have no usable coordinates, such as {some}",
            expected="lon in -180 to 180 and lat in -90 to 90, in degrees",
        )


def _refuse_swapped(surveys: pl.DataFrame, file: Path, bounds: Mapping[str, float]) -> None:
    """Raise if most places lie outside the bounds but inside them with lon and lat exchanged."""
    swapped = surveys.filter(~_inside("lon", "lat", bounds) & _inside("lat", "lon", bounds))
    if len(swapped) > len(surveys) / 2:
        raise TableError(
            f"{file}: {len(swapped)} of {len(surveys)} surveys lie outside the region that the run was trained on, "
            f"but inside when lon and lat are exchanged",
            expected="lon {west:.1f} to {east:.1f} and lat {south:.1f} to {north:.1f}".format(**bounds),
            action="Exchange the names of the two columns",
        )


def _inside(lon: str, lat: str, bounds: Mapping[str, float]) -> pl.Expr:
    across = pl.col(lon).is_between(bounds["west"], bounds["east"])
    return across & pl.col(lat).is_between(bounds["south"], bounds["north"])
