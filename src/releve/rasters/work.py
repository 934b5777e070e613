"""Units of work done in threads or by Dask workers; what is finished is kept, and is not done again."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from releve.errors import RasterError, ReleveError
from releve.files import atomic_path

AHEAD = 2
"""Units in flight for each worker: enough to keep it busy, few enough to hold in memory."""

ANSWER_S = 20
"""How long a Dask scheduler may take to answer."""


class Work(Protocol):
    """A part of the work: small, sent to where it is done, and always the same array."""

    def key(self) -> str:
        """Return a name for all that the array depends on."""
        ...

    def read(self) -> NDArray:
        """Return the array."""
        ...


def do_units(
    units: Sequence[Work], work: Path | None, num_workers: int = 0, scheduler: str | None = None
) -> Iterator[tuple[int, NDArray]]:
    """Yield (index, array) of all units, as they come.

    Parameters
    ----------
    units
        What is to be done.
    work
        Folder in which finished arrays are kept.
    num_workers
        Threads, or processes of a local cluster; 0 means one a core.
    scheduler
        Address of a Dask scheduler, or ``local``.

    Raises
    ------
    RasterError
        If a raster cannot be read.
    ReleveError
        If Dask is wanted and not installed, or its scheduler does not answer.
    """
    keep: dict[int, Path] = {}
    waiting = list(range(len(units)))
    if work is not None:
        keep = {index: work / f"{unit.key()}.npy" for index, unit in enumerate(units)}
        waiting = [index for index in waiting if not keep[index].is_file()]
        for index in sorted(set(keep) - set(waiting)):
            yield index, np.load(keep[index])
    num_workers = num_workers or num_cores()
    if scheduler is None:
        doing = _in_threads(units, waiting, num_workers)
    else:
        doing = _with_dask(units, waiting, num_workers, scheduler)
    with closing(doing):
        for index, array in doing:
            if index in keep:
                with atomic_path(keep[index]) as partial, partial.open("wb") as handle:
                    np.save(handle, array)
            yield index, array


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_threads(
    units: Sequence[Work], waiting: Iterable[int], num_workers: int
) -> Generator[tuple[int, NDArray], None, None]:
    queue = deque(waiting)
    with ThreadPoolExecutor(num_workers) as pool:
        flying: dict[Any, int] = {}
        try:
            while queue or flying:
                while queue and len(flying) < AHEAD * num_workers:
                    index = queue.popleft()
                    flying[pool.submit(units[index].read)] = index
                ready, _ = wait(flying, return_when=FIRST_COMPLETED)
                for future in ready:
                    yield flying.pop(future), future.result()
        finally:
            for future in flying:
                future.cancel()


def _with_dask(
    units: Sequence[Work], waiting: Iterable[int], num_workers: int, scheduler: str
) -> Generator[tuple[int, NDArray], None, None]:
    """Do the units on a cluster. What a lost worker had not yet handed over is done again by another."""
    distributed = _import_distributed()
    queue = iter(waiting)
    with _client(distributed, scheduler, num_workers) as client:
        workers = max(1, len(client.scheduler_info()["workers"]))
        flying = {client.submit(_read, units[index], pure=False): index for index in islice(queue, AHEAD * workers)}
        arriving = distributed.as_completed(list(flying), loop=client.loop, with_results=True)
        for future, array in arriving:
            if isinstance(array, str):
                raise RasterError(array)
            yield flying.pop(future), array
            for index in islice(queue, 1):
                following = client.submit(_read, units[index], pure=False)
                flying[following] = index
                arriving.add(following)


def _read(unit: Work) -> NDArray | str:
    """Return the array, or what went wrong: an error of GDAL inside another cannot be sent."""
    try:
        return unit.read()
    except RasterError as error:
        return str(error)


def _import_distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ReleveError(
            "a Dask scheduler is given and distributed is not installed", action='Run pip install "releve[dask]"'
        ) from error
    return distributed


def _client(distributed: Any, scheduler: str, num_workers: int) -> Any:
    """Return a client of a cluster on this machine, or of one that runs elsewhere."""
    if scheduler == "local":
        options = {"processes": True, "threads_per_worker": 1, "dashboard_address": None}
        return distributed.Client(n_workers=num_workers, set_as_default=False, **options)
    try:
        return distributed.Client(scheduler, set_as_default=False, timeout=ANSWER_S)
    except (OSError, ValueError) as error:
        raise ReleveError(
            f"no Dask scheduler answers at {scheduler} ({error})",
            expected='an address such as tcp://10.0.0.1:8786, or "local"',
        ) from error
