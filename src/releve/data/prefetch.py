"""Work done ahead in a thread, so that the next batches are gathered while a step is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def prefetch(work: Callable[[A], B], items: Iterable[A], depth: int) -> Iterator[B]:
    """Yield ``work(item)`` in the order of the items, up to ``depth`` of them ahead; with 0 each when it is asked for.

    Examples
    --------
    >>> list(prefetch(str, [1, 2, 3], depth=2))
    ['1', '2', '3']
    """
    if depth == 0:
        yield from map(work, items)
        return
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(1) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
