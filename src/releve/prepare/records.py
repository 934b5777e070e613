"""Presence-only records to rows of a store: cleaned, grouped, and with the effort that was spent around them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from releve.errors import ReleaseError
from releve.ingest.covariates import read_covariates
from releve.ingest.places import WORLD, extent_of_study
from releve.ingest.release import Release
from releve.ingest.surveys import Surveys, read_occurrences
from releve.prepare.clean import Cleaned, clean_records
from releve.prepare.config import CleanConfig, PseudoplotConfig
from releve.prepare.enrich import EnrichConfig, enrich_records, find_regions
from releve.prepare.pseudoplots.group import Pseudoplots, group_records
from releve.progress import say


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


def prepare_records(
    release: Release, split: str, clean: CleanConfig, pseudoplots: PseudoplotConfig, *, seed: int
) -> PreparedRecords:
    """Return the presence-only records of a split, cleaned, grouped into pseudo-plots and enriched.

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
    if clean.last_year is None:
        clean = clean.model_copy(update={"last_year": release.rules.last_year})
    lon, lat = (read.table[axis].to_numpy() for axis in ("lon", "lat"))
    extent = extent_of_study(lon, lat, release.rules.extent, read.table["country"])
    if extent == WORLD:
        say(f"{split}: most records lie outside the extent of {release.rules.title}, and none is dropped for that")
    cleaned = clean_records(read.table, clean, extent)
    strata = land_cover_of(release, split, cleaned.table) if pseudoplots.split_by == "land_cover" else None
    grouped = group_records(cleaned.table, pseudoplots, seed=seed, strata=strata)
    dropped = read.dropped | cleaned.dropped_by_reason | grouped.dropped
    if len(grouped.table) == 0:
        raise ReleaseError(
            f"no record of split {split!r} of {release.root} is left: {dropped}",
            action="Loosen clean.drop or the pseudoplots section",
        )
    regions = find_regions(release.root)
    table = enrich_records(grouped.table, EnrichConfig(), regions=regions, effort_from=cleaned.table)
    say(
        f"{split}: {len(read.table):,} records, {len(cleaned.table):,} after cleaning, in {len(table):,} rows "
        f"({pseudoplots.method})"
    )
    return PreparedRecords(table, cleaned, grouped, dropped, read.noted, read.examples)


def land_cover_of(release: Release, split: str, records: pl.DataFrame) -> pl.Series:
    """Return each record's land cover class, from the release's covariates; null where it is not known.

    Raises
    ------
    ReleaseError
        If the release has no land cover of the split.
    """
    ids = records["survey_id"].unique().sort()
    table = read_covariates(release, split, ids.to_numpy()).table
    names = [name for name in table.columns if re.fullmatch(r"landcover(-1)?", name, re.IGNORECASE)]
    if not names:
        raise ReleaseError(
            f"pseudoplots.split_by is 'land_cover' and {release.root} has no land cover of split {split!r}",
            action="Leave pseudoplots.split_by out",
        )
    classes = pl.DataFrame({"survey_id": ids, "class": table[names[0]].fill_nan(None)})
    return records.select("survey_id").join(classes, on="survey_id", how="left", maintain_order="left")["class"]
