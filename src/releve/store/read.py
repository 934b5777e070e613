"""Open a store: memory-mapped arrays gathered by row, sparse labels, one table of surveys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ValidationError

import releve
from releve.errors import StoreError
from releve.files import file_sha256
from releve.ingest.patches import decode_patch
from releve.ingest.rows import SURVEY_SCHEMA
from releve.lists import Lists
from releve.store.schema import STORE_FORMAT, ArraySpec, Manifest

FEW_SPECIES = 20
"""With fewer species, where the others were recorded says little of where people looked."""


@dataclass(frozen=True)
class StoredArray:
    """One modality of a store.

    Parameters
    ----------
    spec
        Shape, dtype, units and fill.
    values
        (rows, *shape) memory map of a raw array, or the flat bytes of an encoded one.
    row_of
        (surveys,) int64 row of each survey in ``values``; -1 where the survey lacks the modality.
    offsets
        (rows, 1 + blobs) byte offsets of an encoded array's blobs, else None.
    """

    spec: ArraySpec
    values: NDArray
    row_of: NDArray[np.int64]
    offsets: NDArray[np.int64] | None = None

    def gather(self, surveys: NDArray[np.int64], pool: ThreadPoolExecutor | None = None) -> NDArray:
        """Return (n, *shape) values of the surveys, in their order; rows of absent surveys are undefined.

        Parameters
        ----------
        surveys
            Positions in the surveys table.
        pool
            Threads that decode the blobs of an encoded array.
        """
        rows = self.row_of[surveys]
        if self.offsets is None:
            return self.values[np.maximum(rows, 0)]
        gathered = np.zeros((len(rows), *self.spec.shape), self.spec.dtype)
        present = np.flatnonzero(rows >= 0)
        decoded = (pool.map if pool else map)(self._decode, rows[present].tolist())
        for at, values in zip(present.tolist(), decoded, strict=True):
            gathered[at] = values
        return gathered

    def _decode(self, row: int) -> NDArray:
        assert self.offsets is not None
        bounds = self.offsets[row].tolist()
        blobs = tuple(self.values[a:b].tobytes() for a, b in zip(bounds[:-1], bounds[1:], strict=True))
        return decode_patch(self.spec.encoding, blobs)


@dataclass(frozen=True)
class Store:
    """An open store: one row a survey."""

    path: Path
    manifest: Manifest
    surveys: pl.DataFrame
    species: pl.DataFrame
    labels: Lists
    """The set of ``species_index`` of each survey."""
    arrays: dict[str, StoredArray]

    @classmethod
    def from_tables(
        cls,
        surveys: pl.DataFrame,
        labels: pl.DataFrame | None = None,
        covariates: pl.DataFrame | None = None,
        *,
        categorical: tuple[str, ...] = (),
        arrays: Mapping[str, StoredArray] | None = None,
        records: str | None = None,
        origin: str = "tables in memory",
    ) -> Store:
        """Return a store in memory: the door for tables that are not a release.

        Parameters
        ----------
        surveys
            One row a survey: ``survey_id``, ``lon``, ``lat`` (degrees), any other column of ``SURVEY_SCHEMA``, which is
            not known where it is not given, and ``fold`` where the rows are to be trained on.
        labels
            ``row`` (position in ``surveys``) and ``species_id``, unique pairs; None where nothing is known.
        covariates
            One row a survey and one column a covariate, null or NaN where missing.
        categorical
            Covariates that are classes.
        arrays
            Series and patches by modality.
        records
            Rows whose column ``split`` has this name are presence-only.
        origin
            What to call it in messages.

        Raises
        ------
        StoreError
            If a table lacks a column or has another number of rows than ``surveys``.

        Examples
        --------
        >>> surveys = pl.DataFrame({"survey_id": ["a", "b"], "lon": [5.0, 6.0], "lat": [45.0, 46.0]})
        >>> labels = pl.DataFrame({"row": [0, 0, 1], "species_id": [7, 9, 7]})
        >>> store = Store.from_tables(surveys, labels, pl.DataFrame({"rain": [800.0, None]}))
        >>> len(store), store.species_ids.tolist(), [store.labels.row(i).tolist() for i in range(2)]
        (2, [7, 9], [[0, 1], [0]])
        """
        surveys = _as_surveys(surveys)
        found = dict(arrays or {})
        if covariates is not None and covariates.width:
            if len(covariates) != len(surveys):
                raise StoreError(
                    f"the table of covariates has {len(covariates)} rows",
                    expected=f"one for each of the {len(surveys)} surveys, in their order",
                )
            values = _cast(covariates, dict.fromkeys(covariates.columns, pl.Float32)).fill_null(float("nan")).to_numpy()
            present = np.asarray(np.isfinite(values).any(axis=1))
            if present.any():
                spec = ArraySpec(
                    name="covariates",
                    file="",
                    dtype="float32",
                    shape=(covariates.width,),
                    num_rows=len(values),
                    fill=None,
                    channels=tuple(covariates.columns),
                    categorical=categorical,
                )
                found["covariates"] = StoredArray(spec, values, np.where(present, np.arange(len(values)), -1))
        labels = _as_labels(labels, len(surveys))
        species = labels.group_by("species_id").agg(num_surveys=pl.len()).sort("species_id")
        index = np.searchsorted(species["species_id"].to_numpy(), labels["species_id"].to_numpy())
        if "fold" not in surveys.columns:
            surveys = surveys.with_columns(fold=pl.lit(-1, pl.Int8))
        manifest = Manifest(
            format=STORE_FORMAT,
            releve=releve.__version__,
            release="table",
            origin=origin,
            recipe={"data": {"records": records}},
            fingerprint="",
            seed=0,
            num_surveys=len(surveys),
            num_species=len(species),
            num_folds=max(0, int(surveys["fold"].max()) + 1) if len(surveys) else 0,  # type: ignore[arg-type]
            arrays={name: array.spec for name, array in found.items()},
            dropped={},
            problems=[],
            leakage=[],
            files={},
        )
        sets = Lists.from_pairs(labels["row"].to_numpy(), index, len(surveys))
        return cls(Path(origin), manifest, surveys, species.with_row_index("species_index"), sets, found)

    def __len__(self) -> int:
        return len(self.surveys)

    def take(self, rows: NDArray[np.integer]) -> Store:
        """Return the rows at these positions as a store that reads the same files."""
        arrays = {name: replace(array, row_of=array.row_of[rows]) for name, array in self.arrays.items()}
        return replace(self, surveys=self.surveys[rows.tolist()], labels=self.labels.take(rows), arrays=arrays)

    def all_have(self, rows: NDArray[np.integer], modalities: tuple[str, ...]) -> bool:
        """Return whether every one of these rows has every one of these modalities that are arrays of the store."""
        return all((self.arrays[name].row_of[rows] >= 0).all() for name in modalities if name in self.arrays)

    @cached_property
    def species_ids(self) -> NDArray[np.int64]:
        """(species,) official ids; position is the ``species_index``."""
        return self.species["species_id"].to_numpy()

    @cached_property
    def species_names(self) -> list[str]:
        """(species,) names; none where species have numbers only."""
        return self.species["name"].to_list() if "name" in self.species.columns else []

    @cached_property
    def lon(self) -> NDArray[np.float64]:
        """(surveys,) degrees east."""
        return self.surveys["lon"].to_numpy()

    @cached_property
    def lat(self) -> NDArray[np.float64]:
        """(surveys,) degrees north."""
        return self.surveys["lat"].to_numpy()

    @cached_property
    def folds(self) -> NDArray[np.int8]:
        """(surveys,) spatial fold of each survey; -1 in a store without folds."""
        return self.surveys["fold"].to_numpy()

    @cached_property
    def is_plot(self) -> NDArray[np.bool_]:
        """(surveys,) true where absence was looked for; false for presence-only rows, single or grouped."""
        records = (self.manifest.recipe.get("data") or {}).get("records")
        if not records or "split" not in self.surveys.columns:
            return np.ones(len(self.surveys), bool)
        return (self.surveys["split"] != records).to_numpy()

    @cached_property
    def is_random(self) -> NDArray[np.bool_]:
        """(surveys,) presence-only rows at which nothing was recorded: random places beside the records."""
        return ~self.is_plot & (self.labels.lengths() == 0)

    @cached_property
    def is_target_group(self) -> bool:
        """Whether the species are enough to be one another's background, beside which random places count little."""
        return len(self.species_ids) >= FEW_SPECIES

    @cached_property
    def is_scored(self) -> NDArray[np.bool_]:
        """(surveys,) the rows that models are validated on: plots; without plots, presence-only rows.

        Of these the random places only where the species are no target group: told from random places is also who only
        knows where people go.
        """
        if self.is_plot.any():
            return self.is_plot
        return ~self.is_random if self.is_target_group else ~self.is_plot

    @cached_property
    def reach_km(self) -> NDArray[np.float64]:
        """(surveys,) how far what a row was made of lies from its place: a pseudo-plot's farthest record; else 0."""
        if "reach_m" not in self.surveys.columns:
            return np.zeros(len(self.surveys))
        return self.surveys["reach_m"].fill_null(0.0).to_numpy() / 1000

    @cached_property
    def trust(self) -> NDArray[np.float32]:
        """(surveys,) how far a row's silence is trusted, 0 to 1; 1 for a plot."""
        if "trust" not in self.surveys.columns:
            return np.ones(len(self.surveys), np.float32)
        return np.where(self.is_plot, 1.0, self.surveys["trust"].fill_null(1.0).to_numpy()).astype(np.float32)


def _as_surveys(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table with all columns of ``SURVEY_SCHEMA`` in their types, those that it lacks null.

    Raises
    ------
    StoreError
        If it lacks an id or a place, or a column holds what it cannot.
    """
    lacking = [name for name in ("survey_id", "lon", "lat") if name not in table.columns]
    if lacking:
        raise StoreError(f"the table of surveys lacks columns {lacking}; it has {table.columns}")
    known = {name: kind for name, kind in SURVEY_SCHEMA.items() if name in table.columns}
    table = _cast(table, known).with_columns(
        pl.lit(None, kind).alias(name) for name, kind in SURVEY_SCHEMA.items() if name not in known
    )
    there = pl.col("survey_id").is_not_null() & pl.col("lon").is_between(-180, 180) & pl.col("lat").is_between(-90, 90)
    nowhere = table.filter(~there.fill_null(False))
    if len(nowhere):
        raise StoreError(
            f"{len(nowhere)} of {len(table)} surveys have no id or no place on Earth, such as "
            f"{nowhere.select('survey_id', 'lon', 'lat').row(0)}",
            expected="an id, lon in -180 to 180 and lat in -90 to 90",
        )
    return table


def _as_labels(table: pl.DataFrame | None, num_surveys: int) -> pl.DataFrame:
    """Return unique pairs of row and species, sorted.

    Raises
    ------
    StoreError
        If a column is missing, a value is null, or a row is none of the surveys'.
    """
    kinds = {"row": pl.Int64, "species_id": pl.Int64}
    if table is None:
        return pl.DataFrame(schema=kinds)
    if lacking := [name for name in kinds if name not in table.columns]:
        raise StoreError(f"the table of labels lacks columns {lacking}; it has {table.columns}")
    pairs = _cast(table.select(*kinds), kinds).unique().sort("row", "species_id")
    wrong = pairs.filter(
        ~(pl.col("row").is_between(0, num_surveys - 1) & pl.col("species_id").is_not_null()).fill_null(False)
    )
    if len(wrong):
        raise StoreError(
            f"{len(wrong)} labels, such as {wrong.row(0)}, are of no survey or no species",
            expected=f"a row from 0 to {num_surveys - 1} and the id of a species",
        )
    return pairs


def _cast(table: pl.DataFrame, kinds: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    try:
        return table.cast(dict(kinds))  # type: ignore[arg-type]
    except pl.exceptions.PolarsError as error:
        raise StoreError(
            f"a table in memory cannot be read: {str(error).splitlines()[0]}", expected=f"{kinds}"
        ) from error


def open_store(path: Path, *, verify: bool = False) -> Store:
    """Return the store in a folder, after checking that every file is there and whole.

    Parameters
    ----------
    path
        Folder made by ``releve prepare``.
    verify
        Also recompute the checksum of every file, not only its size.

    Raises
    ------
    StoreError
        If the folder is no store, is of another format, or a file is missing, truncated or altered.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    for name, check in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise StoreError(f"store {path} lacks {name}", action="Run releve prepare again with --overwrite")
        if file.stat().st_size != check.num_bytes:
            raise StoreError(
                f"{file} has {file.stat().st_size:,} bytes",
                expected=f"{check.num_bytes:,}: the store is truncated or altered",
                action="Run releve prepare again with --overwrite",
            )
        if verify and file_sha256(file) != check.sha256:
            raise StoreError(
                f"{file} does not have the checksum in the manifest",
                action="The store was altered; run releve prepare again with --overwrite",
            )
    surveys = pl.read_parquet(path / "surveys.parquet", glob=False)
    labels = Lists(np.load(path / "labels_indptr.npy"), np.load(path / "labels_indices.npy"))
    arrays = {name: _open_array(path, spec, surveys) for name, spec in manifest.arrays.items()}
    return Store(path, manifest, surveys, pl.read_parquet(path / "species.parquet", glob=False), labels, arrays)


def _read_manifest(path: Path) -> Manifest:
    file = path / "manifest.json"
    if not file.is_file():
        unfinished = path.with_name(path.name + ".part").is_dir()
        raise StoreError(
            f"{path} is not a store: it has no manifest.json",
            expected="a folder made by releve prepare",
            action="Run the same releve prepare again: it goes on where it stopped" if unfinished else "",
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("format") != STORE_FORMAT:
            raise StoreError(
                f"store {path} has format {content.get('format')}",
                expected=f"format {STORE_FORMAT}",
                action="Run releve prepare again with --overwrite",
            )
        return Manifest.model_validate(content)
    except (ValueError, ValidationError) as error:  # no JSON, no text, or not as it was written
        raise StoreError(
            f"{file} cannot be read: {str(error).splitlines()[0]}",
            action="Run releve prepare again with --overwrite",
        ) from error


def _open_array(path: Path, spec: ArraySpec, surveys: pl.DataFrame) -> StoredArray:
    row_of = surveys[spec.row_column].to_numpy().astype(np.int64)
    if spec.encoding == "raw":
        return StoredArray(spec, np.load(path / spec.file, mmap_mode="r"), row_of)
    assert spec.index_file is not None
    offsets = np.load(path / spec.index_file)
    file = path / spec.file
    blobs = np.memmap(file, np.uint8, "r") if file.stat().st_size else np.zeros(0, np.uint8)
    return StoredArray(spec, blobs, row_of, offsets)
