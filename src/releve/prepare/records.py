"""Presence-only records to rows of a store: cleaned, grouped, and with the effort that was spent around them."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from releve.errors import ReleaseError
from releve.ingest.places import WORLD, extent_of_most, extent_of_study
from releve.ingest.refused import reasons
from releve.ingest.study import Source
from releve.ingest.surveys import Surveys, read_occurrences
from releve.prepare.clean import Cleaned, clean_records
from releve.prepare.config import CleanConfig, PseudoplotConfig
from releve.prepare.enrich import EnrichConfig, enrich_records, find_regions
from releve.prepare.pseudoplots.group import Pseudoplots, group_records
from releve.progress import say

MANY_AT_SEA = 0.1
"""A larger share of records at sea is more than errors of single records."""


@dataclass(frozen=True)
class PreparedRecords:
    """The presence-only records of a split as pseudo-plots."""

    table: pl.DataFrame
    """The pseudo-plots' table with the columns that enrichment derives (see docs/metadata.md)."""
    cleaned: Cleaned
    pseudoplots: Pseudoplots
    dropped: dict[str, int]
    """Records left out in reading, cleaning and grouping, by reason."""
    noted: dict[str, int]
    """What was mended in reading rather than left out."""
    examples: dict[str, tuple[str, ...]]

    @property
    def surveys(self) -> Surveys:
        """The pseudo-plots as a split with labels, whose ``row`` is their position in the table.

        Country and region are as published, so that what only some rows have been given by a map is not taken for a
        difference between plots and records.
        """
        published = self.pseudoplots.table.select("country", "region")
        labels = self.pseudoplots.labels.select(row=pl.col("plot"), species_id="species_id")
        table = self.table.drop("country_filled", "region_filled").with_columns(published)
        return Surveys(table, labels, self.dropped, self.noted, self.examples)


def prepare_records(source: Source, split: str, clean: CleanConfig, pseudoplots: PseudoplotConfig) -> PreparedRecords:
    """Return the presence-only records of a split, cleaned, grouped into pseudo-plots and enriched.

    Parameters
    ----------
    source, split
        An open release or study, and its split of presence-only records.
    clean
        What is dropped.
    pseudoplots
        How close records are grouped.

    Raises
    ------
    ReleaseError
        If no record is left.
    """
    read = read_occurrences(source, split)
    if not len(read.table):
        raise ReleaseError(
            f"no record of split {split!r} of {source.root} can be used: {reasons(read.dropped, read.examples)}",
            expected="a survey id, lon and lat in degrees, and a species id in each row",
        )
    if clean.last_year is None:
        clean = clean.model_copy(update={"last_year": source.rules.last_year})
    lon, lat = (read.table[axis].to_numpy() for axis in ("lon", "lat"))
    if source.rules.extent is None:  # where most lie tells what is exchanged, but nobody says where none can be
        extent = extent_of_most(lon, lat)
        clean = clean.model_copy(update={"drop": tuple(flag for flag in clean.drop if flag != "outside_extent")})
    else:
        extent = extent_of_study(lon, lat, source.rules.extent, read.table["country"])
        if extent == WORLD:
            say(f"{split}: most records lie outside the extent of {source.rules.title}, and none is dropped for that")
    cleaned = clean_records(read.table, clean, extent)
    num_at_sea = cleaned.dropped_by_reason.get("sea", 0)
    if num_at_sea > MANY_AT_SEA * len(read.table):
        say(
            f"{split}: {num_at_sea:,} of {len(read.table):,} records lie at sea and are dropped. If they should not, "
            "their coordinate system is another one, or 'sea' is to be taken out of clean.drop"
        )
    grouped = group_records(cleaned.table, pseudoplots)
    dropped = read.dropped | cleaned.dropped_by_reason | grouped.dropped
    if len(grouped.table) == 0:
        raise ReleaseError(
            f"no record of split {split!r} of {source.root} is left: {reasons(dropped, read.examples)}",
            action="Loosen clean.drop or the pseudoplots section",
        )
    regions = find_regions(source.root)
    table = enrich_records(grouped.table, EnrichConfig(), regions=regions, effort_from=cleaned.table)
    say(
        f"{split}: {len(read.table):,} records, {len(cleaned.table):,} after cleaning, in {len(table):,} rows "
        f"({pseudoplots.method})"
    )
    return PreparedRecords(table, cleaned, grouped, dropped, read.noted, read.examples)
