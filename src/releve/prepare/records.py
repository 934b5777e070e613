"""Presence-only records to rows of a store: cleaned, grouped, and with the effort that was spent around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from releve.errors import ReleaseError
from releve.geo import block_ids, equal_area_crs, project
from releve.ingest import Release, Surveys, read_occurrences
from releve.prepare.clean import CleanConfig, clean_records
from releve.prepare.pseudoplots import PseudoplotConfig, group_records
from releve.progress import console

EFFORT_CELL_KM = 10.0


@dataclass(frozen=True)
class PreparedRecords:
    """Pseudo-plots as surveys."""

    surveys: Surveys
    """As of a split with labels; ``labels`` holds ``row`` (position in the table) beside ``survey_id``."""
    by_publisher: pl.DataFrame
    """reason, publisher, count of the records that cleaning dropped."""


def prepare_records(
    release: Release, split: str, clean: CleanConfig, pseudoplots: PseudoplotConfig, *, seed: int
) -> PreparedRecords:
    """Return the presence-only records of a split, cleaned and grouped into pseudo-plots.

    Parameters
    ----------
    release, split
        An open release, and its split of presence-only records.
    clean
        What is dropped.
    pseudoplots
        How close records are grouped.
    seed
        Of every random choice of the grouping.

    Raises
    ------
    ReleaseError
        If no record is left.
    """
    read = read_occurrences(release, split)
    cleaned = clean_records(read.table, clean, release.rules.extent)
    grouped = group_records(cleaned.table, pseudoplots, seed=seed)
    counts = cleaned.dropped.group_by("reason").agg(pl.col("count").sum()).sort("reason")
    dropped = read.dropped | dict(counts.iter_rows()) | grouped.dropped
    if len(grouped.table) == 0:
        raise ReleaseError(
            f"no record of split {split!r} of {release.root} is left: {dropped}",
            action="Loosen clean.drop or the pseudoplots section",
        )
    lon, lat = cleaned.table["lon"].to_numpy(), cleaned.table["lat"].to_numpy()
    cells = block_ids(project(lon, lat, equal_area_crs(lon, lat)), EFFORT_CELL_KM)
    per_record = pl.DataFrame({"record": np.arange(len(cells)), "cell_records": np.bincount(cells)[cells]})
    first = grouped.members.group_by("plot").agg(pl.col("record").min())
    effort = first.join(per_record.cast({"record": first["record"].dtype}), on="record").sort("plot")
    table = grouped.table.with_columns(effort["cell_records"])
    labels = grouped.labels.select(row=pl.col("plot"), species_id="species_id")
    console.print(
        f"{split}: {len(read.table):,} records, {len(cleaned.table):,} after cleaning, in {len(table):,} rows "
        f"({pseudoplots.method})"
    )
    return PreparedRecords(Surveys(table, labels, dropped, {}, read.examples), cleaned.dropped)
