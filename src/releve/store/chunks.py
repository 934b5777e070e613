"""Read chunks of a release in parallel: in threads, or in processes where there are very many files."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context, parent_process
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releve.errors import ReleaseError
from releve.ingest.patches import PatchSource, decode_patch
from releve.ingest.problems import Problem
from releve.store.contents import RowSource

PROCESSES_FROM_ROWS = 20_000
"""Below this many surveys the start of worker processes costs more than they save; threads are used."""


@dataclass(frozen=True)
class Part:
    """What one chunk's files hold."""

    rows: NDArray[np.int64]
    """Positions in the split's table."""
    values: Any
    """An array row for each of ``rows``; of encoded files, a tuple of blobs."""
    problems: list[Problem]
    counts: dict[str, int] = field(default_factory=dict)
    """Values that were mended or masked, by what was done."""


@dataclass(frozen=True)
class Task:
    """One chunk to read."""

    source: int
    """Position among the sources."""
    index: int
    size: int
    encoded: bool


def read_parts(sources: tuple[RowSource, ...], tasks: list[Task], num_workers: int = 0) -> Iterator[Part]:
    """Yield what the tasks' chunks hold, in their order; a few are read ahead, in parallel.

    Parameters
    ----------
    sources
        What the tasks point at; sent once to each worker, not with every chunk.
    tasks
        Chunks to read.
    num_workers
        0 means one a core.
    """
    workers = num_workers or num_cores()
    pool: Executor
    if workers > 1 and sum(len(source.rows) for source in sources) >= PROCESSES_FROM_ROWS:
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (sources,))
        read: Any = _read_in_worker
    else:
        pool = ThreadPoolExecutor(workers)

        def read(task: Task) -> Part:
            return read_part(sources[task.source], task)

    with pool:
        queue = iter(tasks)
        pending = deque(pool.submit(read, task) for task in islice(queue, 2 * workers))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(read, task) for task in islice(queue, 1))


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_part(source: RowSource, task: Task) -> Part:
    """Return what one chunk holds; a survey whose file is broken is left out, with a problem."""
    if not task.encoded:
        chunk = source.read_chunk(task.index, task.size)
        return Part(chunk.rows, chunk.values, chunk.problems, chunk.counts)
    assert isinstance(source, PatchSource)
    rows, blobs, problems = [], [], []
    for row in source.rows[task.index * task.size : (task.index + 1) * task.size].tolist():
        try:
            files = source.read_bytes(row)
            decode_patch(source.kind, files)  # a broken file must be met now, not in the middle of training
        except ReleaseError as error:
            path = " + ".join(source.paths(row))
            problems.append(Problem(source.split, source.modality, source.survey_ids[row], path, str(error)))
        else:
            rows.append(row)
            blobs.append(files)
    return Part(np.array(rows, np.int64), blobs, problems)


_sources: tuple[RowSource, ...] = ()
"""In a worker process: what it reads from."""


def _start_worker(sources: tuple[RowSource, ...]) -> None:
    global _sources
    _sources = sources
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the process that started it is gone; killed, it cannot say so itself."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _read_in_worker(task: Task) -> Part:
    return read_part(_sources[task.source], task)
