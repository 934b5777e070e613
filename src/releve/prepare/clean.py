"""Occurrences checked one by one: every doubt is a flag, and a configuration says which flags drop a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.prepare.config import CleanConfig
from releve.prepare.flags import FLAGS, flag_records


@dataclass(frozen=True)
class Cleaned:
    """Records that are kept, and an account of the others."""

    table: pl.DataFrame
    """The records kept, with the columns and in the order of the input."""
    flagged: pl.DataFrame
    """flag, publisher, count: records with each flag; a record counts under each of its flags."""
    dropped: pl.DataFrame
    """reason, publisher, count: each record dropped, once, under the first flag of ``FLAGS`` that drops it."""

    @property
    def dropped_by_reason(self) -> dict[str, int]:
        """Number of records dropped by each reason, in the order of ``FLAGS``."""
        totals = self.dropped.group_by("reason", maintain_order=True).agg(pl.col("count").sum())
        return dict(totals.rows())


def clean_records(table: pl.DataFrame, config: CleanConfig, extent: Mapping[str, float] | None = None) -> Cleaned:
    """Return the records without a flag that drops them, and counts of all flags and drops by publisher.

    Parameters
    ----------
    table, config, extent
        As of ``flag_records``.

    Raises
    ------
    TableError
        If the table, or that of institutions, lacks a column.

    Examples
    --------
    >>> records = pl.DataFrame({"lon": [2.35221, -30.12345], "lat": [48.85661, 45.54321], "species_id": [1, 1]})
    >>> cleaned = clean_records(records, CleanConfig())
    >>> len(cleaned.table), cleaned.dropped_by_reason
    (1, {'sea': 1})
    """
    flags = flag_records(table, config, extent)
    publisher = (
        table["publisher"].cast(pl.String) if "publisher" in table else pl.Series([None] * len(table), dtype=pl.String)
    )
    names = publisher.unique().sort(nulls_last=True)
    code = (
        publisher.cast(pl.Enum(names.drop_nulls())).to_physical().fill_null(len(names) - 1).to_numpy().astype(np.int64)
    )
    untold = np.ones(len(table), bool)
    flagged, dropped = [], []
    for name in FLAGS:
        found = flags[name].to_numpy()
        flagged.append(_count(name, code[found], names))
        if name in config.drop:
            dropped.append(_count(name, code[found & untold], names))
            untold &= ~found
    empty = _count("", code[:0], names)
    return Cleaned(
        table=table.filter(pl.Series(untold)),
        flagged=pl.concat([empty, *flagged]).rename({"reason": "flag"}),
        dropped=pl.concat([empty, *dropped]),
    )


def _count(reason: str, code: NDArray[np.int64], publishers: pl.Series) -> pl.DataFrame:
    """Return reason, publisher, count; the largest first."""
    counts = pl.Series("count", np.bincount(code, minlength=len(publishers))[: len(publishers)], dtype=pl.Int64)
    table = pl.DataFrame([publishers.alias("publisher"), counts]).filter(pl.col("count") > 0)
    table = table.sort("count", descending=True, maintain_order=True)
    return table.select(pl.lit(reason).alias("reason"), "publisher", "count")
