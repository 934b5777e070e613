"""One progress bar with an estimate, written to standard error so that standard output stays data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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


def say(message: str) -> None:
    """Print a message as it is: brackets are no markup, and names are not broken over lines."""
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
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:  # a log file gets no blank lines
        yield bar


@contextmanager
def quiet_progress() -> Iterator[None]:
    """Show nothing inside the block; for workers, whose bars would cross."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield the items while a progress bar counts them."""
    with progress_bar() as bar:
        yield from bar.track(items, total=total, description=description)
