"""Build a store from a release: in parallel, resumable after a kill, whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

import releve
from releve.decide import Lists
from releve.errors import ReleaseError, RunError
from releve.files import disk_error, file_sha256, write_json
from releve.ingest import (
    PatchSource,
    Problem,
    Release,
    SeriesSource,
    Surveys,
    decode_patch,
    patch_source,
    read_covariates,
    read_patch_chunk,
    read_series_chunk,
    read_surveys,
    series_source,
)
from releve.prepare.split import SplitConfig, assign_folds, measure_leakage
from releve.progress import console, progress_bar
from releve.store.read import Store, open_store
from releve.store.schema import STORE_FORMAT, ArraySpec, FileCheck, Manifest

CHUNK_SIZE = 256
"""Surveys read at a time; a killed build loses the chunks in flight."""
StoredModality = Literal["covariates", "landsat", "climate", "patch"]
PROCESSES_FROM_ROWS = 20_000
"""Below this many files the start of worker processes costs more than they save; threads are used."""


class DataConfig(BaseModel):
    """What is read from a release into a store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    splits: tuple[str, ...] = ("train",)
    """Splits of the release whose surveys are labelled rows of the store."""
    modalities: tuple[StoredModality, ...] = ("covariates", "landsat", "climate", "patch")
    """Modalities to store; one that the release lacks is left out, and said."""
    patch_storage: Literal["raw", "encoded"] = "raw"
    """``raw``: decoded arrays, fastest to gather; ``encoded``: the files' own bytes, several times smaller."""
    num_workers: int = Field(0, ge=0)
    """Processes that read files; 0 means one a core."""


@dataclass(frozen=True)
class _Job:
    """One split's part of one array: surveys ``first_survey`` on, rows ``first_row`` on."""

    source: SeriesSource | PatchSource
    split: str
    first_survey: int
    first_row: int
    num_surveys: int


@dataclass(frozen=True)
class _Part:
    """What one chunk's files hold: ``rows`` (positions in the split) with an array row or a tuple of blobs each."""

    rows: NDArray[np.int64]
    values: Any
    problems: list[Problem]


def build_store(
    release: Release,
    data: DataConfig,
    split: SplitConfig | None,
    out: Path,
    *,
    seed: int = 0,
    overwrite: bool = False,
    min_surveys: int = 1,
) -> Store:
    """Build a store folder and return it opened.

    The work goes on in ``OUT.part`` and becomes ``OUT`` in one rename at the end. If a build was killed, the same
    call goes on where it stopped and ends with the same bytes; a different recipe or release starts over.

    Parameters
    ----------
    release
        An open release.
    data
        Splits and modalities to store.
    split
        Spatial folds; None for rows that are only predicted.
    out
        Folder to make.
    seed
        Seed of the folds.
    overwrite
        Replace a store that was built from another release or recipe.
    min_surveys
        Fewest surveys worth a store.

    Raises
    ------
    RunError
        If ``out`` exists and was built otherwise, and ``overwrite`` is false.
    ReleaseError
        If the release lacks a split, or no survey is left after cleaning.
    ReleveError
        If the disk is full.
    """
    out = Path(out)
    for name in data.splits:
        if name not in release.splits:
            raise ReleaseError(f"release {release.root} has no split {name!r}", expected=f"one of {release.splits}")
    surveys, table, labels = _read_all_surveys(release, data.splits)
    if len(table) < min_surveys:
        raise ReleaseError(f"splits {data.splits} of {release.root} hold {len(table)} usable surveys")
    jobs = {m: _plan_jobs(release, data.splits, surveys, m) for m in data.modalities if m != "covariates"}
    recipe = {"data": _recipe_of(data), "split": split.model_dump() if split else None}
    fingerprint = _fingerprint(release, jobs)
    key = {"format": STORE_FORMAT, "recipe": recipe, "fingerprint": fingerprint, "seed": seed}

    done = _reuse(out, key, overwrite)
    if done:
        return done
    part = out.with_name(out.name + ".part")
    try:
        journal = _Journal.open(part, key)
        writer = _Writer(part, journal, table, data)
        if "covariates" in data.modalities:
            writer.write_covariates(release, data.splits, surveys)
        for name, name_jobs in jobs.items():
            writer.write_sources(name, name_jobs)
        folds, leakage = _fold(table, split, seed)
        writer.write_tables(labels, folds)
        manifest = Manifest(
            format=STORE_FORMAT,
            releve=releve.__version__,
            release=release.layout,
            recipe=recipe,
            fingerprint=fingerprint,
            seed=seed,
            num_surveys=len(table),
            num_species=labels["species_id"].n_unique(),
            num_folds=split.num_folds if split else 0,
            arrays=writer.specs,
            dropped={name: s.dropped for name, s in surveys.items()} | writer.masked,
            problems=writer.problems,
            leakage=leakage,
            files=_check_files(part, writer.files),
        )
        journal.close()
        write_json(part / "manifest.json", manifest.model_dump(mode="json"))
        if out.exists():
            shutil.rmtree(out)
        part.rename(out)
    except OSError as error:
        raise disk_error(error, part) from error
    return open_store(out)


def _recipe_of(data: DataConfig) -> dict[str, Any]:
    """Return the part of the configuration that decides the bytes (not how many workers made them)."""
    return data.model_dump(mode="json", exclude={"num_workers"})


def _reuse(out: Path, key: dict[str, Any], overwrite: bool) -> Store | None:
    """Return the store that is already there if it is the one wanted; refuse another unless told to replace it."""
    if not out.exists():
        return None
    manifest = out / "manifest.json"
    if manifest.is_file():
        content = json.loads(manifest.read_text(encoding="utf-8"))
        differs = [name for name in key if content.get(name) != json.loads(json.dumps(key[name]))]
        if not differs:
            return open_store(out)
        what = f"{out} is a store made with another {' and '.join(differs)}"
    else:
        what = f"{out} exists and is not a store"
        if not overwrite and not any(out.iterdir()):
            return None
        if overwrite and any(out.iterdir()):
            raise RunError(what, action="Give another --out; --overwrite replaces stores only")
    if not overwrite:
        raise RunError(what, action="Give another --out, or --overwrite to replace it")
    return None


def _read_all_surveys(
    release: Release, splits: tuple[str, ...]
) -> tuple[dict[str, Surveys], pl.DataFrame, pl.DataFrame]:
    """Return the surveys by split, all in one table with a ``split`` column, and all labels with ``row``."""
    surveys = {name: read_surveys(release, name) for name in splits}
    tables = [s.table.with_columns(split=pl.lit(name)) for name, s in surveys.items()]
    table = pl.concat(tables, how="diagonal")
    keys = table.select("split", "survey_id").with_row_index("row")
    labels = pl.concat([s.labels.with_columns(split=pl.lit(name)) for name, s in surveys.items()])
    labels = labels.join(keys, on=["split", "survey_id"], how="inner").select("row", "species_id")
    return surveys, table, labels.sort("row", "species_id")


def _plan_jobs(
    release: Release, splits: tuple[str, ...], surveys: dict[str, Surveys], modality: StoredModality
) -> list[_Job]:
    jobs: list[_Job] = []
    first_survey = first_row = 0
    for name in splits:
        table = surveys[name].table
        source: SeriesSource | PatchSource | None
        if modality == "patch":
            source = patch_source(release, name, table)
        else:
            assert modality != "covariates"
            source = series_source(release, name, modality, table)
        if source is not None and source.has.any():
            jobs.append(_Job(source, name, first_survey, first_row, len(table)))
            first_row += int(source.has.sum())
        first_survey += len(table)
    if jobs and len({(job.source.shape, str(job.source.dtype)) for job in jobs}) > 1:
        shapes = {job.split: (job.source.shape, str(job.source.dtype)) for job in jobs}
        raise ReleaseError(f"{modality} differs between splits: {shapes}", expected="one shape and type")
    return jobs


def _fingerprint(release: Release, jobs: dict[str, list[_Job]]) -> str:
    """Return one hash of the release: contents of its tables, names and sizes of its single files."""
    digest = hashlib.sha256()
    for file in sorted(release.files):
        digest.update(f"{file.relative_to(release.root)} {file_sha256(file)}\n".encode())
    for name_jobs in jobs.values():
        for job in name_jobs:
            for path in _single_files(job.source):
                digest.update(f"{path} {(release.root / path).stat().st_size}\n".encode())
    return digest.hexdigest()


def _single_files(source: SeriesSource | PatchSource) -> Iterator[str]:
    """Yield the paths of a source's one-survey files; a table is among the release's files already."""
    for row in np.flatnonzero(source.has).tolist():
        if isinstance(source, PatchSource):
            yield from source.paths(row)
        elif source.files is not None and source.positions is not None:
            yield source.files.path(int(source.positions[row]))


def _fold(table: pl.DataFrame, split: SplitConfig | None, seed: int) -> tuple[NDArray[np.int8], list[dict[str, float]]]:
    if split is None:
        return np.full(len(table), -1, np.int8), []
    lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
    folds = assign_folds(lon, lat, split, rng=np.random.default_rng(seed))
    return folds, [asdict(row) for row in measure_leakage(folds, lon, lat, split)]


def _check_files(part: Path, names: list[str]) -> dict[str, FileCheck]:
    return {
        name: FileCheck(num_bytes=(part / name).stat().st_size, sha256=file_sha256(part / name))
        for name in sorted(names)
    }


class _Journal:
    """A list of the chunks that are safely in the arrays: one JSON line a chunk, read back after a kill."""

    def __init__(self, file: Path, entries: list[dict[str, Any]]) -> None:
        self.entries = {(e["array"], e["split"], e["chunk"]): e for e in entries}
        self._handle = file.open("a", encoding="utf-8")
        self._file = file

    @classmethod
    def open(cls, part: Path, key: dict[str, Any]) -> _Journal:
        """Open the journal of an unfinished build of the same key, or start a new one in an empty folder."""
        file = part / "journal.jsonl"
        lines = file.read_text(encoding="utf-8").split("\n") if file.is_file() else []
        entries = [json.loads(line) for line in lines[:-1]]  # a line that was cut by the kill has no newline
        if entries and entries[0] == json.loads(json.dumps(key)):
            console.print(f"going on with the unfinished store in {part} ({len(entries) - 1} chunks are done)")
            with file.open("r+", encoding="utf-8") as handle:
                handle.truncate(len(("\n".join(lines[:-1]) + "\n").encode()))
            return cls(file, entries[1:])
        if part.exists():
            shutil.rmtree(part)
        part.mkdir(parents=True)
        file.write_text(json.dumps(key) + "\n", encoding="utf-8")
        return cls(file, [])

    def add(self, entry: dict[str, Any]) -> None:
        """Note a chunk as done; call it only after the chunk's bytes are written."""
        self.entries[entry["array"], entry["split"], entry["chunk"]] = entry
        self._handle.write(json.dumps(entry) + "\n")
        self._handle.flush()

    def close(self) -> None:
        """Remove the journal: the store is complete."""
        self._handle.close()
        self._file.unlink()


class _Writer:
    """Writes the files of an unfinished store.

    It writes plainly at offsets, since a full disk then raises an error; through a memory map it would kill the
    process.
    """

    def __init__(self, part: Path, journal: _Journal, table: pl.DataFrame, data: DataConfig) -> None:
        self.part, self.journal, self.table, self.data = part, journal, table, data
        self.specs: dict[str, ArraySpec] = {}
        self.row_of: dict[str, NDArray[np.int32]] = {}
        self.problems: list[dict[str, Any]] = []
        self.masked: dict[str, dict[str, int]] = {}
        self.files: list[str] = []

    def write_covariates(self, release: Release, splits: tuple[str, ...], surveys: dict[str, Surveys]) -> None:
        """Write the covariate columns of all splits, aligned by name, as one float32 array."""
        parts = {name: read_covariates(release, name, surveys[name].table["survey_id"].to_numpy()) for name in splits}
        parts = {name: part for name, part in parts.items() if part.groups}
        if not parts:
            return
        columns = list(dict.fromkeys(column for part in parts.values() for column in part.groups))
        values = np.full((len(self.table), len(columns)), np.nan, np.float32)
        start = 0
        for name in splits:
            stop = start + len(surveys[name].table)
            if name in parts:
                have = [c for c in columns if c in parts[name].groups]
                values[start:stop, [columns.index(c) for c in have]] = parts[name].table.select(have).to_numpy()
                self.masked[f"{name} covariates"] = parts[name].masked
            start = stop
        present = np.isfinite(values).any(axis=1)
        self._set_rows("covariates", present)
        self._save("covariates.npy", values[present])
        self.specs["covariates"] = ArraySpec(
            name="covariates",
            file="covariates.npy",
            dtype="float32",
            shape=(len(columns),),
            num_rows=int(present.sum()),
            fill=None,
            channels=tuple(columns),
            units={c: u for part in parts.values() for c, u in part.units.items()},
            groups={c: g for part in parts.values() for c, g in part.groups.items()},
            categorical=tuple(dict.fromkeys(c for part in parts.values() for c in part.categorical)),
        )

    def write_sources(self, name: str, jobs: list[_Job]) -> None:
        """Write one modality's array, chunk by chunk, going on after the chunks that the journal knows."""
        if not jobs:
            console.print(f"{name}: none in this release; the store goes without")
            return
        source = jobs[0].source
        encoded = isinstance(source, PatchSource) and self.data.patch_storage == "encoded"
        present = np.zeros(len(self.table), bool)
        for job in jobs:
            present[job.first_survey : job.first_survey + job.num_surveys] = job.source.has
        self._set_rows(name, present)
        num_rows = int(present.sum())
        spec = ArraySpec(
            name=name,
            file=f"{name}.bin" if encoded else f"{name}.npy",
            dtype=np.dtype(source.dtype).name,
            shape=source.shape,
            num_rows=num_rows,
            fill=source.fill,
            encoding=source.kind if encoded else "raw",
            index_file=f"{name}_offsets.npy" if encoded else None,
            channels=tuple(source.channel_names),
            units={"values": source.units},
            first_year=getattr(source, "first_year", None),
        )
        self.specs[name] = spec
        if encoded:
            self._write_encoded(spec, jobs)
        else:
            self._write_raw(spec, jobs)

    def _write_raw(self, spec: ArraySpec, jobs: list[_Job]) -> None:
        file = self.part / spec.file
        num_bytes = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
        if not any(key[0] == spec.name for key in self.journal.entries):
            _allocate(file, spec.dtype, (spec.num_rows, *spec.shape))
        header = file.stat().st_size - spec.num_rows * num_bytes
        with file.open("r+b", buffering=0) as handle:
            for job, chunk_index, chunk in self._chunks(spec, jobs):
                survey_rows = self.row_of[spec.name][job.first_survey + chunk.rows]
                for first, last in _runs(survey_rows):
                    handle.seek(header + int(survey_rows[first]) * num_bytes)
                    _write_all(handle, np.ascontiguousarray(chunk.values[first:last]))
                self._note(spec.name, job, chunk_index, chunk)
        self.files.append(spec.file)

    def _write_encoded(self, spec: ArraySpec, jobs: list[_Job]) -> None:
        """Append the files' own bytes; the journal keeps where each blob ended."""
        file = self.part / spec.file
        num_blobs = len(jobs[0].source.files)  # type: ignore[arg-type]
        offsets = np.zeros((spec.num_rows, 1 + num_blobs), np.int64)
        done = [e for e in self.journal.entries.values() if e["array"] == spec.name]
        end = max((e["end"] for e in done), default=0)
        for entry in done:
            offsets[entry["rows"]] = entry["offsets"]
        file.touch()
        with file.open("r+b", buffering=0) as handle:
            handle.truncate(end)
            handle.seek(end)
            for job, chunk_index, chunk in self._chunks(spec, jobs):
                rows = self.row_of[spec.name][job.first_survey + chunk.rows]
                places, buffer = [], bytearray()
                for blobs in chunk.values:
                    ends = np.cumsum([end + len(buffer), *map(len, blobs)])
                    places.append(ends.tolist())
                    buffer += b"".join(blobs)
                offsets[rows] = np.array(places, np.int64).reshape(-1, 1 + num_blobs)
                _write_all(handle, bytes(buffer))
                end += len(buffer)
                where = {"end": end, "rows": rows.tolist(), "offsets": places}
                self._note(spec.name, job, chunk_index, chunk, where)
        assert spec.index_file is not None
        self._save(spec.index_file, offsets)
        self.files.append(spec.file)

    def write_tables(self, labels: pl.DataFrame, folds: NDArray[np.int8]) -> None:
        """Write the surveys, the species and the sparse labels."""
        columns = {f"row_{name}": self.row_of.get(name, np.full(len(self.table), -1, np.int32)) for name in self.specs}
        self._save_table("surveys.parquet", self.table.with_columns(fold=folds, **columns))
        species = labels.group_by("species_id").agg(num_surveys=pl.len()).sort("species_id")
        self._save_table("species.parquet", species.with_row_index("species_index"))
        ids = species["species_id"].to_numpy()
        rows = labels["row"].to_numpy()
        lists = Lists.from_pairs(rows, np.searchsorted(ids, labels["species_id"].to_numpy()), len(self.table))
        self._save("labels_indptr.npy", lists.indptr)
        self._save("labels_indices.npy", lists.indices)

    def _chunks(self, spec: ArraySpec, jobs: list[_Job]) -> Iterator[tuple[_Job, int, _Part]]:
        """Yield the chunks that are not yet in the journal, read in parallel, in order."""
        todo: list[tuple[int, int]] = []
        for number, job in enumerate(jobs):
            for index in range(job.source.num_chunks(CHUNK_SIZE)):
                entry = self.journal.entries.get((spec.name, job.split, index))
                if entry is None:
                    todo.append((number, index))
                else:
                    self._take_note(spec.name, entry)
        workers = self.data.num_workers or os.cpu_count() or 1
        sources = tuple(job.source for job in jobs)
        encoded = spec.encoding != "raw"
        with _executor(workers, spec.num_rows, sources) as pool, progress_bar() as bar:
            task = bar.add_task(f"store {spec.name}", total=len(todo))
            arguments = [(number, index, encoded) for number, index in todo]
            for (number, index), chunk in zip(todo, _bounded_map(pool, arguments, 2 * workers), strict=True):
                yield jobs[number], index, chunk
                bar.advance(task)

    def _note(self, name: str, job: _Job, index: int, chunk: _Part, where: dict[str, Any] | None = None) -> None:
        """Enter a written chunk in the journal; surveys whose file held nothing usable lose their row."""
        wanted = _chunk_rows(job.source, index)
        empty = job.first_survey + np.setdiff1d(wanted, chunk.rows)
        entry = {
            "array": name,
            "split": job.split,
            "chunk": index,
            "problems": [asdict(problem) for problem in chunk.problems],
            "empty": empty.tolist(),
        } | (where or {})
        self.journal.add(entry)
        self._take_note(name, entry)

    def _take_note(self, name: str, entry: dict[str, Any]) -> None:
        self.problems += entry["problems"]
        self.row_of[name][entry["empty"]] = -1

    def _set_rows(self, name: str, present: NDArray[np.bool_]) -> None:
        self.row_of[name] = np.where(present, np.cumsum(present) - 1, -1).astype(np.int32)

    def _save(self, name: str, array: NDArray) -> None:
        np.save(self.part / name, array)
        self.files.append(name)

    def _save_table(self, name: str, table: pl.DataFrame) -> None:
        table.write_parquet(self.part / name)
        self.files.append(name)


def _allocate(file: Path, dtype: str, shape: tuple[int, ...]) -> None:
    """Make a .npy file of zeros and claim its space now, so that a full disk is met before the work, not after."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with file.open("wb") as handle:
        np.lib.format.write_array_header_2_0(handle, header)
        start = handle.tell()
        num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        handle.truncate(start + num_bytes)
        if num_bytes and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle.fileno(), start, num_bytes)


def _write_all(handle: Any, values: Any) -> None:
    """Write every byte (an unbuffered file may take fewer than it is given)."""
    view = memoryview(values).cast("B")
    while len(view):
        view = view[handle.write(view) :]


def _runs(rows: NDArray[np.integer]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) bounds of the stretches of consecutive numbers.

    Examples
    --------
    >>> list(_runs(np.array([4, 5, 6, 9])))
    [(0, 3), (3, 4)]
    """
    if len(rows):
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        bounds = [0, *breaks.tolist(), len(rows)]
        yield from zip(bounds[:-1], bounds[1:], strict=True)


_sources: tuple[SeriesSource | PatchSource, ...] = ()
"""In a worker: what it reads from, sent once when the worker starts and not with every chunk."""


def _start_worker(sources: tuple[SeriesSource | PatchSource, ...]) -> None:
    global _sources
    _sources = sources


def _executor(workers: int, num_rows: int, sources: tuple[SeriesSource | PatchSource, ...]) -> Executor:
    if workers > 1 and num_rows >= PROCESSES_FROM_ROWS:
        return ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (sources,))
    return ThreadPoolExecutor(workers, initializer=_start_worker, initargs=(sources,))


def _chunk_rows(source: SeriesSource | PatchSource, index: int) -> NDArray[np.int64]:
    """Return the positions, in the split's table, of the surveys whose files a chunk reads."""
    return np.flatnonzero(source.has)[index * CHUNK_SIZE : (index + 1) * CHUNK_SIZE]


def _read_part(number: int, index: int, encoded: bool) -> _Part:
    """Read one chunk in a worker."""
    source = _sources[number]
    if isinstance(source, SeriesSource):
        chunk = read_series_chunk(source, index, CHUNK_SIZE)
        return _Part(chunk.rows, chunk.values, chunk.problems)
    if not encoded:
        patches = read_patch_chunk(source, index, CHUNK_SIZE)
        return _Part(patches.rows, patches.values, patches.problems)
    rows, values, problems = [], [], []
    for row in _chunk_rows(source, index).tolist():
        try:
            blobs = source.read_bytes(row)
            decode_patch(source.kind, blobs)  # a broken file must be met now, not in the middle of training
        except ReleaseError as error:
            path = " + ".join(source.paths(row))
            problems.append(Problem(source.split, "patch", int(source.survey_ids[row]), path, str(error)))
        else:
            rows.append(row)
            values.append(blobs)
    return _Part(np.array(rows, np.int64), values, problems)


def _bounded_map(pool: Executor, arguments: list[tuple[Any, ...]], ahead: int) -> Iterator[_Part]:
    """Yield ``_read_part(*arguments)`` in order, with at most ``ahead`` chunks read before they are wanted."""
    queue = iter(arguments)
    pending = deque(pool.submit(_read_part, *args) for args in islice(queue, ahead))
    while pending:
        yield pending.popleft().result()
        pending.extend(pool.submit(_read_part, *args) for args in islice(queue, 1))
