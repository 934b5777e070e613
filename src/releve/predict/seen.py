"""What was seen at the places of a table, as sets of a run's species."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from releve.errors import TableError
from releve.ingest.ids import clean_ids
from releve.ingest.own import read_column
from releve.ingest.spellings import clean_names
from releve.lists import Lists
from releve.progress import say
from releve.runs.folder import Run

SEPARATOR = ";"
NUM_EXAMPLES = 3


def read_seen(run: Run, data: Path, column: str) -> Lists:
    """Return the species that a column of a table of places says were seen, for each place; the unknown are said.

    Parameters
    ----------
    run
        A trained run.
    data
        The table of places.
    column
        Its column of species, called as the run calls them, separated by ``;``; an empty cell where nothing was seen.

    Raises
    ------
    TableError
        If the data are a release, the table has no such column, or none of what was seen is a species of the run.
    """
    if not Path(data).is_file():
        raise TableError(
            f"--seen {column} with {data}, which is a release",
            expected="a table of places, with a column of the species seen at each",
        )
    seen, strange = parse_seen(read_column(data, column), {str(each): i for i, each in enumerate(run.species)})
    num_strange, num_known = sum(strange.values()), len(seen.indices)
    examples = ", ".join(f"{name!r}" for name in list(strange)[:NUM_EXAMPLES])
    if num_strange and not num_known:
        raise TableError(
            f"{data}: the run knows none of the {num_strange} species in column {column!r}, such as {examples}",
            expected=f"species of the run, such as {run.species[0]}, separated by {SEPARATOR!r}",
        )
    if num_strange:
        say(
            f"{num_strange} of {num_strange + num_known} seen species are none that the run knows, left out: "
            f"{examples}{', ...' if len(strange) > NUM_EXAMPLES else ''}"
        )
    return seen


def parse_seen(cells: pl.Series, known: Mapping[str, int]) -> tuple[Lists, dict[str, int]]:
    """Return the sets of species in cells of text, and how often each name in them was not known.

    Parameters
    ----------
    cells
        Names separated by ``;``, null where nothing was seen.
    known
        Index of each name.

    Examples
    --------
    >>> seen, strange = parse_seen(pl.Series(["12; 7", None, "7;99;"]), {"7": 0, "12": 1})
    >>> [seen.row(i).tolist() for i in range(3)], strange
    ([[0, 1], [], [0]], {'99': 1})
    """
    pairs = pl.DataFrame({"row": np.arange(len(cells)), "name": cells.cast(pl.String).str.split(SEPARATOR)})
    pairs = (
        pairs.explode("name").with_columns(pl.col("name").str.strip_chars()).filter(pl.col("name").str.len_bytes() > 0)
    )
    names = clean_names(clean_ids(pairs["name"]))
    index = names.replace_strict(known, default=-1, return_dtype=pl.Int64).to_numpy()
    lists = Lists.from_pairs(pairs["row"].to_numpy()[index >= 0], index[index >= 0], len(cells))
    strange = names.filter(index < 0).value_counts(sort=True)
    return lists, dict(strange.rows())
