"""Random places beside records: silence, where too few species are recorded to be one another's background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from releve.errors import ReleaseError
from releve.ingest.covariates import Covariates
from releve.ingest.refused import NUM_EXAMPLES
from releve.ingest.study import Study
from releve.ingest.surveys import Surveys
from releve.progress import say
from releve.rasters.draw import draw_places
from releve.rasters.layer import Layer
from releve.rasters.sample import sample_layers

FEW_SPECIES = 20
"""With fewer species, where the others were recorded says little of where people looked."""
USUAL_NUMBER = 10_000
"""As many as MaxEnt draws."""
SEED = 0
NO_DATA = "place of records where a raster has no data, as no random place has"


def num_random_places(study: Study, layers: Sequence[Layer], num_species: int, *, has_plots: bool) -> int:
    """Return how many random places go beside records of so many species: as the study says, else as they need.

    Plots beside them tell of absence, so that none are needed.

    Raises
    ------
    ReleaseError
        If the study asks for some and has no rasters to tell what is there.
    """
    wanted = study.config.background
    if wanted and not layers:
        raise ReleaseError(
            f"{study.path} asks for {wanted:,} random places and has no rasters",
            expected="covariates of any place",
            action="Add [[study.rasters]], or remove the line background",
        )
    if wanted is not None or not layers or has_plots:
        return wanted or 0
    return USUAL_NUMBER if num_species < FEW_SPECIES else 0


def with_random_places(records: Surveys, layers: Sequence[Layer], num: int) -> Surveys:
    """Return the records' places and, after them, random ones at which no species is listed.

    All of them have a value in every layer, and the random ones the dates of records, drawn anew: what is missing must
    not tell the two apart. Records' places without are left out and counted.

    Raises
    ------
    ReleaseError
        If no place of the records has a value in every layer.

    References
    ----------
    Phillips & Dudík (2008), Modeling of species distributions with Maxent: new extensions and a comprehensive
    evaluation, doi:10.1111/j.0906-7590.2008.5203.x: 10,000 random places as background.
    """
    records = _covered(records, layers)
    rng = np.random.default_rng(SEED)
    lon, lat = draw_places(layers, num, rng)
    dates = records.table.select("year", "month", "day")[rng.integers(0, len(records.table), num).tolist()]
    ids = [f"random {at}" for at in range(1, num + 1)]
    drawn = pl.DataFrame({"survey_id": ids, "lon": lon, "lat": lat, "series_id": ids, "patch_id": ids})
    drawn = drawn.hstack(dates)
    say(f"{num:,} random places stand beside {len(records.table):,} places of records as background")
    return replace(records, table=pl.concat([records.table, drawn], how="diagonal_relaxed"))


def _covered(records: Surveys, layers: Sequence[Layer]) -> Surveys:
    """Return the places of records at which all layers have a value."""
    lon, lat = (records.table[axis].to_numpy() for axis in ("lon", "lat"))
    sampled = sample_layers(layers, lon, lat)
    kept = np.asarray(np.isfinite(sampled.values).all(axis=1))
    if kept.all():
        return records
    worst = sampled.names[int(np.isnan(sampled.values).sum(axis=0).argmax())]
    lost = records.table.filter(~kept)
    say(
        f"{len(lost):,} of {len(kept):,} places of records lie where a raster has no data (mostly {worst}) and are "
        "left out, as no random place lies there"
    )
    if not kept.any():
        raise ReleaseError(
            f"at none of {len(kept):,} places of records do all rasters have a value (mostly {worst} has none)",
            expected="rasters that cover the records",
            action="Leave out the rasters that do not, or set background = 0 under [study]",
        )
    place = np.cumsum(kept) - 1
    labels = records.labels.filter(kept[records.labels["row"].to_numpy()])
    return replace(
        records,
        table=records.table.filter(kept),
        labels=labels.with_columns(row=pl.Series(place[labels["row"].to_numpy()], dtype=labels["row"].dtype)),
        dropped=records.dropped | {NO_DATA: len(lost)},
        examples=records.examples | {NO_DATA: tuple(lost["survey_id"].head(NUM_EXAMPLES))},
    )


def without_tables(covariates: Covariates) -> Covariates:
    """Return covariates without those of tables: at random places they are missing, which would tell them apart."""
    if not covariates.groups:
        return covariates
    say(f"{', '.join(covariates.groups)}: known of the records alone and of no random place, left out")
    empty = {name: type(getattr(covariates, name))() for name in ("groups", "units", "categorical", "masked")}
    return replace(
        covariates, table=covariates.table.select("survey_id"), **empty, masked_rows={}, facts=(), classes={}
    )
