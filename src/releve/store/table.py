"""A store in memory from a user's own table of places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

import releve
from releve.errors import TableError
from releve.metrics import Lists
from releve.store.read import Store, StoredArray
from releve.store.schema import STORE_FORMAT, ArraySpec, Manifest

OPTIONAL_COLUMNS = {
    "year": ("year", pl.Int32),
    "month": ("month", pl.Int32),
    "country": ("country", pl.Utf8),
    "region": ("region", pl.Utf8),
    "areaInM2": ("area_m2", pl.Float64),
    "geoUncertaintyInM": ("uncertainty_m", pl.Float64),
}


def read_table_store(file: Path, covariates: tuple[str, ...]) -> Store:
    """Return a store of the surveys in a ``.csv`` or ``.parquet`` table, kept in memory.

    Parameters
    ----------
    file
        Table with ``surveyId``, ``lon``, ``lat`` (degrees), any of ``year, month, country, region, areaInM2,
        geoUncertaintyInM``, and covariates.
    covariates
        Covariate columns to look for, under their official names; one that the table lacks is treated as missing.

    Raises
    ------
    TableError
        If a needed column is missing, an id is repeated or no integer, or a coordinate is out of range.
    """
    raw = _read(file)
    for name in ("surveyId", "lon", "lat"):
        if name not in raw.columns:
            raise TableError(f"{file} lacks column {name!r}; it has {raw.columns[:12]}", expected="surveyId, lon, lat")
    optional = [
        (pl.col(name) if name in raw.columns else pl.lit(None)).cast(dtype, strict=False).alias(ours)
        for name, (ours, dtype) in OPTIONAL_COLUMNS.items()
    ]
    surveys = raw.select(
        pl.col("surveyId").cast(pl.Int64, strict=False).alias("survey_id"),
        pl.col("lon", "lat").cast(pl.Float64, strict=False),
        *optional,
    )
    _check(surveys, file)
    found = [name for name in covariates if name in raw.columns]
    values = np.full((len(raw), len(covariates)), np.nan, np.float32)
    for name in found:
        values[:, covariates.index(name)] = raw[name].cast(pl.Float32, strict=False).fill_null(np.nan).to_numpy()
    values[~np.isfinite(values)] = np.nan
    row_of = np.where(np.isfinite(values).any(axis=1), np.arange(len(raw)), -1)
    spec = ArraySpec(
        name="covariates",
        file="",
        dtype="float32",
        shape=(len(covariates),),
        num_rows=len(raw),
        fill=None,
        channels=covariates,
    )
    manifest = Manifest(
        format=STORE_FORMAT,
        releve=releve.__version__,
        release="table",
        recipe={},
        fingerprint="",
        seed=0,
        num_surveys=len(raw),
        num_species=0,
        num_folds=0,
        arrays={"covariates": spec} if covariates else {},
        dropped={},
        problems=[],
        leakage=[],
        files={},
    )
    no_species = pl.DataFrame(
        {"species_index": [], "species_id": [], "num_surveys": []}, schema_overrides={"species_id": pl.Int64}
    )
    labels = Lists(np.zeros(len(raw) + 1, np.int64), np.zeros(0, np.int32))
    surveys = surveys.with_columns(fold=pl.lit(-1, pl.Int8))
    arrays = {"covariates": StoredArray(spec, values, row_of)} if covariates else {}
    return Store(file, manifest, surveys, no_species, labels, arrays)


def _read(file: Path) -> pl.DataFrame:
    if not file.is_file():
        raise TableError(f"no table at {file}")
    try:
        if file.suffix == ".parquet":
            return pl.read_parquet(file)
        return pl.read_csv(file, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise TableError(
            f"{file} cannot be read: {str(error).splitlines()[0]}", expected="a CSV or parquet table"
        ) from error


def _check(surveys: pl.DataFrame, file: Path) -> None:
    ids = surveys["survey_id"]
    if ids.null_count() or ids.n_unique() < len(ids) or len(ids) == 0:
        raise TableError(
            f"{file}: surveyId has {ids.null_count()} values that are no integers and "
            f"{len(ids) - ids.n_unique()} that are repeated, in {len(ids)} rows",
            expected="one row a survey with an integer id of its own",
        )
    bad = surveys.filter(~(pl.col("lon").is_between(-180, 180) & pl.col("lat").is_between(-90, 90)).fill_null(False))
    if len(bad):
        raise TableError(
            f"{file}: {len(bad)} surveys have no usable coordinates, such as {bad['survey_id'].head(3).to_list()}",
            expected="lon in -180 to 180 and lat in -90 to 90, in degrees",
        )
