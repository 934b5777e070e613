"""Random places beside records: silence, where too few species are recorded to be one another's background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from releve.errors import ReleaseError
from releve.ingest.covariates import Covariates
from releve.ingest.study import Study
from releve.ingest.surveys import Surveys
from releve.progress import say
from releve.rasters.draw import draw_places
from releve.rasters.layer import Layer
from releve.store.config import DataConfig

FEW_SPECIES = 20
"""With fewer species, where the others were recorded says little of where people looked."""
USUAL_NUMBER = 10_000
"""As many as MaxEnt draws."""
SEED = 0


def num_random_places(study: Study, layers: Sequence[Layer], records: Surveys, data: DataConfig) -> int:
    """Return how many random places go beside the records: as the study says, else those that they need.

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
    if wanted is not None or not layers or "train" in data.splits:
        return wanted or 0
    return USUAL_NUMBER if records.labels["species_id"].n_unique() < FEW_SPECIES else 0


def with_random_places(records: Surveys, layers: Sequence[Layer], num: int) -> Surveys:
    """Return the records' places and, after them, random ones at which no species is listed.

    References
    ----------
    Phillips & Dudík (2008), Modeling of species distributions with Maxent: new extensions and a comprehensive
    evaluation, doi:10.1111/j.0906-7590.2008.5203.x: 10,000 random places as background.
    """
    lon, lat = draw_places(layers, num, np.random.default_rng(SEED))
    ids = [f"random {at}" for at in range(1, num + 1)]
    drawn = pl.DataFrame({"survey_id": ids, "lon": lon, "lat": lat, "series_id": ids, "patch_id": ids})
    say(f"{num:,} random places stand beside {len(records.table):,} places of records as background")
    return replace(records, table=pl.concat([records.table, drawn], how="diagonal_relaxed"))


def without_tables(covariates: Covariates) -> Covariates:
    """Return covariates without those of tables: at random places they are missing, which would tell them apart."""
    if not covariates.groups:
        return covariates
    say(f"{', '.join(covariates.groups)}: known of the records alone and of no random place, left out")
    empty = {name: type(getattr(covariates, name))() for name in ("groups", "units", "categorical", "masked")}
    return replace(
        covariates, table=covariates.table.select("survey_id"), **empty, masked_rows={}, facts=(), classes={}
    )
