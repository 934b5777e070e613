"""One progress bar with an estimate, written to standard error so that standard output stays data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")

console = Console(stderr=True)
_is_quiet: ContextVar[bool] = ContextVar("is_quiet", default=False)
"""Of a thread: others go on to show what they do."""


def say(message: str) -> None:
    """Print a message as it is: brackets are no markup, and names are not broken over lines."""
    if not _is_quiet.get():
        console.print(message, soft_wrap=True, markup=False, highlight=False)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Yield a bar that shows what is done, how much is left and how long it will take."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    hidden = _is_quiet.get() or not console.is_terminal  # a log file gets no blank lines
    with Progress(*columns, console=console, disable=hidden) as bar:
        yield bar


@contextmanager
def quiet_progress() -> Iterator[None]:
    """Show nothing of what this thread does inside the block; for workers, whose bars would cross."""
    before = _is_quiet.set(True)
    try:
        yield
    finally:
        _is_quiet.reset(before)


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield the items while a progress bar counts them."""
    with progress_bar() as bar:
        yield from bar.track(items, total=total, description=description)
