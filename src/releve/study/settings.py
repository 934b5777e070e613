"""The settings of a run on any source: a recipe's, or those that a study's data call for and its file changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from releve.config import Config, apply_override, make_config, read_toml
from releve.errors import ConfigError
from releve.geo import block_ids
from releve.ingest.study import Source, Study
from releve.ingest.surveys import Surveys, read_occurrences, read_surveys
from releve.rasters.grid import cell_sizes_m
from releve.rasters.layer import Layer
from releve.store.layers import layers_of
from releve.store.random_places import num_random_places
from releve.study.defaults import Facts, choose_settings

FACTS_OF_SURVEYS = ("area_m2", "uncertainty_m", "year", "country", "region")


@dataclass(frozen=True)
class Settings:
    """A recipe, and why it is as it is where the data chose."""

    config: Config
    reasons: tuple[str, ...] = ()


def settings_for(source: Source, recipe: Path | None, overrides: Sequence[str] | None = None) -> Settings:
    """Return the recipe of a run.

    Parameters
    ----------
    source
        An open release or study.
    recipe
        A TOML file. For a study it may be left out: settings are then chosen from the data. What the study's own file
        says in sections beside ``[study]`` comes before either.
    overrides
        Texts such as ``train.epochs=5``, which come before all.

    Raises
    ------
    ConfigError
        If a release is given without a recipe, a key is unknown, or a value is impossible.
    """
    if recipe is None and not isinstance(source, Study):
        raise ConfigError(
            f"no recipe for {source.rules.title}",
            expected="a TOML file that describes the run",
            action="Give one of recipes/*.toml before --data; only a study.toml may go without",
        )
    content: dict[str, Any] = {} if recipe is None else read_toml(recipe)
    reasons: tuple[str, ...] = ()
    if isinstance(source, Study):
        own = {name: section for name, section in read_toml(source.path, what="study").items() if name != "study"}
        if recipe is None:
            choice = choose_settings(facts_of(source))
            content, reasons = dict(choice.settings), choice.reasons
            content.setdefault("title", source.rules.title)
        content = _merged(content, own)
    for text in overrides or ():
        apply_override(content, text)
    origin = " and ".join(str(path) for path in (recipe, source.path if isinstance(source, Study) else None) if path)
    return Settings(make_config(content, origin=origin), reasons)


def facts_of(study: Study) -> Facts:
    """Return what of a study decides its settings."""
    layers = layers_of(study)
    plots = read_surveys(study, "train") if "train" in study.splits else None
    records = read_occurrences(study, "po").table if "po" in study.splits else None
    cell_km = cell_km_of(layers)
    species = [table["species_id"] for table in (plots.labels if plots else None, records) if table is not None]
    modalities = [name for name in ("landsat", "climate") if any(s.modality == name for s in study.config.series)]
    if layers or study.rules.covariates:
        modalities.insert(0, "covariates")
    if study.config.patches is not None:
        modalities.append("patch")
        cell_km = max(cell_km, study.config.patches.size_m / 1000)
    num_random = 0
    if records is not None and plots is None:
        num_random = num_random_places(study, layers, records["species_id"].n_unique(), has_plots=False)
    lon, lat = _distinct_places(records, max(0.1 if num_random else 1.0, cell_km))
    return Facts(
        plot_lon=_axis(plots, "lon"),
        plot_lat=_axis(plots, "lat"),
        record_lon=lon,
        record_lat=lat,
        num_species=pl.concat(species).n_unique() if species else 0,
        num_random=num_random,
        modalities=tuple(modalities),
        has_survey_facts=plots is not None and any(plots.table[name].n_unique() > 1 for name in FACTS_OF_SURVEYS),
        has_countries=records is not None and records["country"].null_count() < len(records),
        cell_km=cell_km,
    )


def cell_km_of(layers: Sequence[Layer]) -> float:
    """Return the side of the largest cell, the median over a grid's rows; 0 without layers."""
    sides = [float(np.median(np.sqrt(np.prod(cell_sizes_m(grid), axis=0)))) for grid in {each.grid for each in layers}]
    return max(sides, default=0.0) / 1000


def _axis(plots: Surveys | None, name: str) -> np.ndarray:
    return plots.table[name].to_numpy() if plots is not None else np.zeros(0)


def _distinct_places(records: pl.DataFrame | None, side_km: float) -> tuple[np.ndarray, np.ndarray]:
    """Return one place of each square of a side in which something was recorded."""
    if records is None or not len(records):
        return np.zeros(0), np.zeros(0)
    lon, lat = records["lon"].to_numpy(), records["lat"].to_numpy()
    first = np.unique(block_ids(lon, lat, side_km), return_index=True)[1]
    return lon[first], lat[first]


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return the base with what the other says in its place, section by section."""
    merged = dict(base)
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value) if both else value
    return merged
