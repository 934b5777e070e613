"""The errors a user can cause. Each message says what was found, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class ReleveError(Exception):
    """A problem the user can mend; the command line prints it without a traceback and exits with 2.

    Parameters
    ----------
    found
        What was met, with names and numbers.
    expected
        What would have been right.
    action
        What to do about it.
    """

    shared = False
    """Whether every process of a joint training raises it; then the first one says it for all."""

    def __init__(self, found: str, *, expected: str = "", action: str = "") -> None:
        self.found, self.expected, self.action = found, expected, action
        parts = [found, f"expected {expected}" if expected else "", action]
        super().__init__(". ".join(part.rstrip(".") for part in parts if part) + ".")


class ReleaseError(ReleveError):
    """A release, or a file of one, that cannot be read."""


class RasterError(ReleveError):
    """A raster that cannot be read, or does not say where on Earth its cells lie."""


class StoreError(ReleveError):
    """A store that is stale, truncated, incomplete or not a store."""


class ConfigError(ReleveError):
    """An unknown key or an impossible value in a recipe or a ``--set`` option."""


class RunError(ReleveError):
    """A run folder that cannot be used, resumed or overwritten."""


class ProcessError(ReleveError):
    """Another process of a joint training was lost."""


class TableError(ReleveError):
    """A table of the user's that lacks a column or holds an impossible value."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"`` for the closest valid name, or the list of valid names.

    Examples
    --------
    >>> nearest("epoch", ["epochs", "seed"])
    "did you mean 'epochs'?"
    >>> nearest("zebra", ["epochs", "seed"])
    "choose one of ['epochs', 'seed']"
    """
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {valid}"


def pick(table: Mapping[str, T], name: str, *, what: str = "option") -> T:
    """Return ``table[name]``, or raise naming the valid names.

    Raises
    ------
    ConfigError
        If ``name`` is not in the table.

    Examples
    --------
    >>> pick({"a": 1, "b": 2}, "b")
    2
    """
    if name not in table:
        raise ConfigError(f"unknown {what} {name!r}", expected=f"one of {sorted(table)}")
    return table[name]
