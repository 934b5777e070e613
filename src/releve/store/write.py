"""Write the files of an unfinished store, going on after the chunks that its journal knows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.errors import StoreError
from releve.files import write_parquet
from releve.ingest.covariates import Covariates
from releve.ingest.patches import PatchSource
from releve.lists import Lists
from releve.progress import progress_bar, say
from releve.store.chunks import Part, Task, read_parts
from releve.store.contents import RowSource
from releve.store.journal import Journal
from releve.store.schema import ArraySpec

CHUNK_SIZE = 256
"""Surveys read at a time; a killed build loses the chunks in flight."""


@dataclass(frozen=True)
class Job:
    """One split's part of one array."""

    source: RowSource
    first_survey: int
    """Position, in the store, of the split's first survey."""


def check_alike(name: str, first: RowSource, other: RowSource) -> None:
    """Refuse the arrays of two splits that cannot lie in one.

    Raises
    ------
    StoreError
        If they differ in shape, channels, type, fill or first year.
    """
    facts = ("shape", "channel_names", "dtype", "fill", "first_year")
    ours, theirs = ({fact: getattr(source, fact, None) for fact in facts} for source in (first, other))
    differs = [fact for fact in facts if ours[fact] != theirs[fact]]
    if differs:
        raise StoreError(
            f"{name} of split {other.split} has {', '.join(f'{fact} {theirs[fact]}' for fact in differs)}",
            expected=f"{', '.join(f'{fact} {ours[fact]}' for fact in differs)}, as in split {first.split}",
            action=f"Leave {name} out of data.modalities, or prepare the splits on their own",
        )


class Writer:
    """Writes the files of an unfinished store.

    It writes plainly at offsets, since a full disk then raises an error; through a memory map it would kill the
    process.

    Parameters
    ----------
    part
        Folder of the unfinished store.
    journal
        Its journal.
    table
        The surveys of all splits, one after the other.
    num_workers
        Workers that read files; 0 means one a core.
    """

    def __init__(self, part: Path, journal: Journal, table: pl.DataFrame, num_workers: int) -> None:
        self.part, self.journal, self.table, self.num_workers = part, journal, table, num_workers
        self.specs: dict[str, ArraySpec] = {}
        self.row_of: dict[str, NDArray[np.int32]] = {}
        self.problems: list[dict[str, Any]] = []
        self.counts: dict[str, dict[str, int]] = {}
        self.files: list[str] = []

    def write_covariates(self, parts: list[Covariates]) -> None:
        """Write the covariate columns of all splits, in their order, aligned by name, as one float32 array."""
        columns = list(dict.fromkeys(column for part in parts for column in part.groups))
        values = np.full((len(self.table), len(columns)), np.nan, np.float32)
        start = 0
        for part in parts:
            have = [name for name in columns if name in part.groups]
            where = [columns.index(name) for name in have]
            if have:
                values[start : start + len(part.table), where] = part.table.select(have).to_numpy()
            start += len(part.table)
        present = np.asarray(np.isfinite(values).any(axis=1))
        if not present.any():
            say("covariates: none in this release; the store goes without")
            return
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
            units={column: unit for part in parts for column, unit in part.units.items()},
            groups={column: group for part in parts for column, group in part.groups.items()},
            categorical=tuple(dict.fromkeys(column for part in parts for column in part.categorical)),
            classes={column: names for part in parts for column, names in part.classes.items()},
        )

    def write_sources(self, name: str, jobs: list[Job], *, encoded: bool = False) -> None:
        """Write one modality's array chunk by chunk: decoded, or as the files' own bytes."""
        if not jobs:
            say(f"{name}: none in this release; the store goes without")
            return
        source = jobs[0].source
        encoded = encoded and isinstance(source, PatchSource)  # what is cut from rasters has no bytes of its own
        for job in jobs[1:]:
            check_alike(name, source, job.source)
        present = np.zeros(len(self.table), bool)
        for job in jobs:
            present[job.first_survey + job.source.rows] = True
        self._set_rows(name, present)
        self.specs[name] = spec = ArraySpec(
            name=name,
            file=f"{name}.bin" if encoded else f"{name}.npy",
            dtype=np.dtype(source.dtype).name,
            shape=source.shape,
            num_rows=int(present.sum()),
            fill=source.fill,
            encoding=source.kind if encoded else "raw",
            index_file=f"{name}_offsets.npy" if encoded else None,
            channels=tuple(source.channel_names),
            units={"values": source.units},
            first_year=getattr(source, "first_year", None),
        )
        if encoded:
            self._write_encoded(spec, jobs)
        else:
            self._write_raw(spec, jobs)
        self.files.append(spec.file)

    def write_tables(self, labels: pl.DataFrame, folds: NDArray[np.int8], names: pl.DataFrame | None) -> None:
        """Write the surveys, the species, with their names if any, and the sparse labels (``row``, ``species_id``)."""
        columns = {self.specs[name].row_column: rows for name, rows in self.row_of.items()}
        self._save_table("surveys.parquet", self.table.with_columns(fold=folds, **columns))
        species = labels.group_by("species_id").agg(num_surveys=pl.len()).sort("species_id")
        named = species if names is None else species.join(names, on="species_id", how="left", maintain_order="left")
        self._save_table("species.parquet", named.with_row_index("species_index"))
        index = np.searchsorted(species["species_id"].to_numpy(), labels["species_id"].to_numpy())
        lists = Lists.from_pairs(labels["row"].to_numpy(), index, len(self.table))
        self._save("labels_indptr.npy", lists.indptr)
        self._save("labels_indices.npy", lists.indices)

    def _write_raw(self, spec: ArraySpec, jobs: list[Job]) -> None:
        file = self.part / spec.file
        num_bytes = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
        if not self.journal.of(spec.name):
            allocate(file, spec.dtype, (spec.num_rows, *spec.shape))
        header = file.stat().st_size - spec.num_rows * num_bytes
        with file.open("r+b", buffering=0) as handle:
            for job, task, chunk in self._chunks(spec, jobs):
                rows = self.row_of[spec.name][job.first_survey + chunk.rows]
                for first, last in stretches(rows):
                    handle.seek(header + int(rows[first]) * num_bytes)
                    write_all(handle, np.ascontiguousarray(chunk.values[first:last]))
                self._note(spec.name, job, task, chunk)

    def _write_encoded(self, spec: ArraySpec, jobs: list[Job]) -> None:
        """Append the files' own bytes; the journal keeps where each blob ended."""
        file = self.part / spec.file
        assert isinstance(jobs[0].source, PatchSource) and spec.index_file is not None
        offsets = np.zeros((spec.num_rows, 1 + len(jobs[0].source.files)), np.int64)
        done = self.journal.of(spec.name)
        for entry in done:
            offsets[entry["rows"]] = entry["offsets"]
        end = max((entry["end"] for entry in done), default=0)
        file.touch()
        with file.open("r+b", buffering=0) as handle:
            handle.truncate(end)
            handle.seek(end)
            for job, task, chunk in self._chunks(spec, jobs):
                rows = self.row_of[spec.name][job.first_survey + chunk.rows]
                places = []
                for blobs in chunk.values:
                    places.append(np.cumsum([end, *map(len, blobs)]).tolist())
                    end = places[-1][-1]
                write_all(handle, b"".join(blob for blobs in chunk.values for blob in blobs))
                if places:
                    offsets[rows] = places
                self._note(spec.name, job, task, chunk, {"end": end, "rows": rows.tolist(), "offsets": places})
        self._save(spec.index_file, offsets)

    def _chunks(self, spec: ArraySpec, jobs: list[Job]) -> Iterator[tuple[Job, Task, Part]]:
        """Yield the chunks that are not yet in the journal, read in parallel, in order."""
        tasks: list[Task] = []
        for number, job in enumerate(jobs):
            for index in range(job.source.num_chunks(CHUNK_SIZE)):
                entry = self.journal.entries.get((spec.name, job.source.split, index))
                if entry is None:
                    tasks.append(Task(number, index, CHUNK_SIZE, encoded=spec.encoding != "raw"))
                else:
                    self._take_note(entry)
        with progress_bar() as bar:
            shown = bar.add_task(f"store {spec.name}", total=len(tasks))
            parts = read_parts(tuple(job.source for job in jobs), tasks, self.num_workers)
            for task, part in zip(tasks, parts, strict=True):
                yield jobs[task.source], task, part
                bar.advance(shown)

    def _note(self, name: str, job: Job, task: Task, chunk: Part, where: dict[str, Any] | None = None) -> None:
        """Enter a written chunk in the journal; surveys whose file held nothing usable lose their row."""
        wanted = job.source.rows[task.index * task.size : (task.index + 1) * task.size]
        entry = {
            "array": name,
            "split": job.source.split,
            "chunk": task.index,
            "problems": [asdict(problem) for problem in chunk.problems],
            "counts": chunk.counts,
            "empty": (job.first_survey + np.setdiff1d(wanted, chunk.rows)).tolist(),
        } | (where or {})
        self.journal.add(entry)
        self._take_note(entry)

    def _take_note(self, entry: dict[str, Any]) -> None:
        self.problems += entry["problems"]
        for what, count in entry["counts"].items():
            counts = self.counts.setdefault(f"{entry['split']} {entry['array']}", {})
            counts[what] = counts.get(what, 0) + count
        self.row_of[entry["array"]][entry["empty"]] = -1

    def _set_rows(self, name: str, present: NDArray[np.bool_]) -> None:
        self.row_of[name] = np.where(present, np.cumsum(present) - 1, -1).astype(np.int32)

    def _save(self, name: str, array: NDArray) -> None:
        np.save(self.part / name, array)
        self.files.append(name)

    def _save_table(self, name: str, table: pl.DataFrame) -> None:
        write_parquet(self.part / name, table)
        self.files.append(name)


def allocate(file: Path, dtype: str, shape: tuple[int, ...]) -> None:
    """Make a .npy file of zeros and claim its space now, so that a full disk is met before the work, not after."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with file.open("wb") as handle:
        np.lib.format.write_array_header_2_0(handle, header)
        start = handle.tell()
        num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        handle.truncate(start + num_bytes)
        if num_bytes and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle.fileno(), start, num_bytes)


def write_all(handle: Any, values: Any) -> None:
    """Write every byte (an unbuffered file may take fewer than it is given)."""
    view = memoryview(values).cast("B")
    while len(view):
        view = view[handle.write(view) :]


def stretches(rows: NDArray[np.integer]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) bounds of the stretches of consecutive numbers.

    Examples
    --------
    >>> list(stretches(np.array([4, 5, 6, 9])))
    [(0, 3), (3, 4)]
    """
    if len(rows):
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        bounds = [0, *breaks.tolist(), len(rows)]
        yield from zip(bounds[:-1], bounds[1:], strict=True)
