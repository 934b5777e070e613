"""What a run knows of ODMAP's sections Overview and Data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from releve.geo import in_europe
from releve.models.boosting import MIN_ROWS
from releve.prepare.config import UNCERTAINTY_IN_WORDS
from releve.report import words
from releve.report.citations import OFFICIAL, list_works
from releve.report.facts import Facts
from releve.report.page import format_count, format_score

TYPES = {
    "bioclim": "climatic",
    "elevation": "topographic",
    "soil": "edaphic",
    "landcover": "habitat",
    "human_footprint": "human pressure",
}
RESOLUTIONS = {
    "bioclim": "CHELSA 30 arc seconds",
    "elevation": "ASTER GDEM 1 arc second",
    "landcover": "MODIS about 500 m",
    "human_footprint": "human footprint 1 km",
    "soil": "SoilGrids 250 m at the source",
}
RASTERS = "longitude −32.26 to 35.58, latitude 26.63 to 72.18"
"""Bounds of the rasters of GeoPlant, as its documentation gives them."""


def _location(facts: Facts) -> str:
    names = [f"{name} {format_count(count)}" for name, count in facts.countries]
    return f"Surveys by country: {', '.join(names)}." if names else ""


def _extent(facts: Facts) -> str:
    if facts.bounds is None:
        return ""
    west, south, east, north = (format_score(facts.bounds[name], 2) for name in ("west", "south", "east", "north"))
    return f"Longitude {west} to {east}, latitude {south} to {north} (EPSG:4326)"


def _plot_size(facts: Facts) -> str:
    areas = facts.numbers_of("area_m2")
    if not len(areas):
        return "Vegetation plots; their area is not known."
    low, middle, high = np.quantile(areas, [0.05, 0.5, 0.95])
    return (
        f"Vegetation plots: median area {middle:,.0f} m2 (5 % to 95 %: {low:,.0f} to {high:,.0f} m2), known for "
        f"{words.counted(len(areas), 'plot')}."
    )


def _years(facts: Facts) -> str:
    return "{} to {}".format(*facts.years) if facts.years else ""


def _time_steps(facts: Facts) -> str:
    if facts.uses("landsat") or facts.uses("climate"):
        return "Date of the survey; time series are cut at that date."
    return "Year of the survey." if facts.uses("survey") else ""


def _observation(facts: Facts) -> str:
    return "; ".join(
        filter(
            None,
            [
                "field survey (vegetation plots)" if facts.num_plots else "",
                "presence-only records, mostly citizen science" if facts.num_pseudoplots else "",
            ],
        )
    )


def _response(facts: Facts) -> str:
    kinds = ["presence/absence"] if facts.num_plots else []
    return "; ".join(kinds + (["presence-only"] if facts.num_pseudoplots else []))


def _predictor_types(facts: Facts) -> str:
    types = [TYPES[group] for group in facts.covariate_groups if group in TYPES]
    types += ["climatic time series"] if facts.uses("climate") else []
    types += ["remote sensing"] if facts.uses("landsat") or facts.uses("patch") else []
    types += ["location"] if facts.uses("location") else []
    types += ["facts of the survey"] if facts.uses("survey") else []
    return "; ".join(dict.fromkeys(types))


def _assumptions(facts: Facts) -> str:
    text = (
        "The method assumes that a species not recorded on a plot is absent from it, that plots of the region follow "
        "one "
        "relation between environment and species whatever the year, and, for the lists, that species occur "
        "independently of each other given the predictors."
    )
    if facts.num_pseudoplots:
        text += " Silence of presence-only rows is not taken as absence but weighted by trust."
    return text


def _algorithms(facts: Facts) -> str:
    kinds = {
        "network": "multi-label neural network",
        "forest": "extremely randomised trees",
        "booster": "boosted trees",
    }
    return "; ".join(kinds.get(kind, kind) for kind in facts.num_members)


def _complexity(facts: Facts) -> str:
    return words.tell_runs(facts, _restraints)


def _restraints(facts: Facts) -> str:
    model, train = facts.config.model, facts.config.train
    parts = []
    if facts.num_members["network"]:
        choice = "stopping by blocked plots" if train.selection_share else "a fixed number of epochs"
        parts.append(
            f"Networks are held back by dropout {model.dropout:g}, weight decay {train.weight_decay:g} and {choice}."
        )
    if facts.num_members["forest"]:
        parts.append(f"Leaves of the forests hold at least {facts.config.forest.min_rows} rows.")
    if facts.num_members["booster"]:
        parts.append(f"Leaves of the boosted trees hold at least {MIN_ROWS} rows, and their steps are shrunk.")
    return " ".join(parts)


def _workflow(facts: Facts) -> str:
    joined = " of each run calibrated, weighted and averaged" if facts.parts else " calibrated"
    return (
        "Release checked and read; surveys cleaned; covariates masked where impossible; folds of "
        f"{words.name_units(facts)}; models trained; logits{joined} and lists decided on held-out plots; scores beside "
        "reference models on the same folds; new places predicted by all members."
    )


def _software(facts: Facts) -> str:
    packages = [f"{name} {version}" for name, version in facts.provenance.get("packages", {}).items()]
    python = f"Python {facts.provenance['python']}" if "python" in facts.provenance else ""
    return ", ".join(filter(None, [f"Relevé {facts.version}", python, *packages])) + "."


def _data_available(facts: Facts) -> str:
    manifest = facts.manifest
    return f"{manifest.origin} (layout {manifest.release}), SHA-256 of the files read: {manifest.fingerprint}"


def _taxa(facts: Facts) -> str:
    named = bool(facts.store.species_names)
    return (
        f"{words.counted(facts.manifest.num_species, 'species', 'species')}, by "
        f"{'the names in the tables of the study' if named else 'the official ids of the release'}; listed in "
        "species.parquet of the store and in evaluation/species.csv."
    )


def _data_sources(facts: Facts) -> str:
    return " ".join(work.text for work in list_works(facts, "records"))


def _predictor_sources(facts: Facts) -> str:
    return " ".join(work.text for work in list_works(facts, "predictors"))


def _sample_size(facts: Facts) -> str:
    presences = facts.presences[facts.presences > 0]
    if not len(presences):
        return ""
    number = int(facts.store.is_scored.sum())
    prevalence = 100 * presences / number
    return (
        f"{words.describe_rows(facts)} Presences a species: median {np.median(presences):,.0f}, from "
        f"{presences.min():,} to "
        f"{presences.max():,}; prevalence {prevalence.min():.2g} % to {prevalence.max():.2g} %."
    )


def _scaling(facts: Facts) -> str:
    if not facts.num_pseudoplots:
        return "Plots were used as recorded; none was thinned or joined."
    source = facts.with_records or facts
    uncertainty = UNCERTAINTY_IN_WORDS[source.config.pseudoplots.uncertainty]
    return (
        f"{words.describe_records(facts)} Of spatial uncertainty: {uncertainty}. Rows were drawn with the number of "
        f"rows in their 10 km cell to the power of −{source.config.records.thinning:g}."
    )


def _cleaning(facts: Facts) -> str:
    parts = [
        f"{where}: {reason} {count:,}"
        for where, reasons in facts.manifest.dropped.items()
        for reason, count in reasons.items()
        if count
    ]
    return ("Dropped rows and masked values by reason. " + "; ".join(parts) + ".") if parts else "No row was dropped."


def _absence(facts: Facts) -> str:
    if not facts.num_plots:
        return ""
    return "Plots are complete lists: a species that a plot does not list is taken as absent from it."


def _background(facts: Facts) -> str:
    return words.tell_runs(facts, _own_background)


def _own_background(facts: Facts) -> str:
    if not facts.num_pseudoplots or facts.config.train.regime == "pa":
        return "None: absences are those of plots."
    text = words.BACKGROUNDS[facts.config.records.background]
    return f"{text[0].upper()}{text[1:]}."


def _errors(facts: Facts) -> str:
    values = facts.numbers_of("uncertainty_m")
    if not len(values):
        return ""
    return (
        f"Location uncertainty: median {np.median(values):,.0f} m, 95 % under {np.quantile(values, 0.95):,.0f} m (of "
        f"{words.counted(len(values), 'plot')} that state it). Detection, identification and uneven sampling: "
        "[for the author]"
    )


def _training_data(facts: Facts) -> str:
    rows = [row["num_train"] for row in facts.leakage if int(row["fold"]) in facts.folds]
    number = f" ({format_count(min(rows))} to {format_count(max(rows))} rows by fold)" if rows else ""
    regime = words.tell_runs(facts, lambda part: f"{words.REGIMES[part.config.train.regime]}.")
    return f"{regime} For each fold, those of the other folds outside the buffer{number}."


def _validation_data(facts: Facts) -> str:
    return f"{words.describe_split(facts)} {words.counted(facts.surveys.height, 'plot')} were scored."


def _variables(facts: Facts) -> str:
    parts = [f"{words.GROUPS.get(group, group)}: {', '.join(names)}" for group, names in facts.covariate_groups.items()]
    for name, text in words.MODALITIES.items():
        if facts.uses(name):
            spec = facts.spec_of(name)
            channels = spec.channels if spec else ()
            parts.append(text + (f": {', '.join(channels)}" if channels else ""))
    return ". ".join(parts) + "."


def _raster_extent(facts: Facts) -> str:
    official = facts.manifest.release in OFFICIAL and facts.uses("covariates")
    return f"Rasters of the release: {RASTERS}." if official else ""


def _raster_resolution(facts: Facts) -> str:
    if facts.manifest.release not in OFFICIAL:
        return ""
    parts = [RESOLUTIONS[group] for group in facts.covariate_groups if group in RESOLUTIONS]
    parts += ["Landsat 30 m"] if facts.uses("landsat") else []
    parts += ["monthly climate (CHELSA) 30 arc seconds"] if facts.uses("climate") else []
    parts += ["Sentinel-2 10 m"] if facts.uses("patch") else []
    return "; ".join(parts)


def _crs(facts: Facts) -> str:
    grid = "EPSG:3035" if in_europe(facts.store.lon, facts.store.lat).all() else "equal-area cells of the globe"
    return f"Places EPSG:4326; blocks on {grid}; distances along great circles."


def _series_years(facts: Facts) -> str:
    parts = ["bioclimatic averages 1981 to 2010"] if "bioclim" in facts.covariate_groups else []
    for name in ("landsat", "climate"):
        if facts.uses(name):
            spec = facts.spec_of(name)
            if spec is not None and spec.first_year is not None:
                parts.append(f"{words.MODALITIES[name]} {spec.first_year} to {spec.first_year + spec.shape[1] - 1}")
    return "; ".join(parts)


def _series_steps(facts: Facts) -> str:
    steps = [
        f"{words.MODALITIES[name]}: {words.counted(spec.shape[2], 'step')} a year"
        for name in ("landsat", "climate")
        if facts.uses(name) and (spec := facts.spec_of(name)) is not None
    ]
    return "; ".join(steps)


def _processing(facts: Facts) -> str:
    text = (
        "Values outside the possible range were masked. Numeric columns were mapped to normal scores by the quantiles "
        "of "
        "the training rows, categories embedded, channels of series and patches standardised by training rows; missing "
        "values and modalities are marked, not filled."
    )
    return text


def describe_averaging(facts: Facts) -> str:
    """Return whether and how models are averaged."""
    if len(facts.members) < 2:
        return "None: a single model."
    return words.describe_members(facts)


FILLS: dict[str, Callable[[Facts], str]] = {
    "o_objective_1": lambda facts: "Mapping and interpolation: which plants grow on a plot of the region sampled.",
    "o_objective_2": lambda facts: "Probability that a species is recorded on a plot, and the plot's species list.",
    "o_taxon_1": lambda facts: f"Plants: {words.counted(facts.manifest.num_species, 'species', 'species')}.",
    "o_location_1": _location,
    "o_scale_1": _extent,
    "o_scale_2": _plot_size,
    "o_scale_3": _years,
    "o_scale_4": _time_steps,
    "o_bio_1": _observation,
    "o_bio_2": _response,
    "o_predictors_1": _predictor_types,
    "o_assumptions_1": _assumptions,
    "o_algorithms_1": _algorithms,
    "o_algorithms_2": _complexity,
    "o_algorithms_3": describe_averaging,
    "o_workflow_1": _workflow,
    "o_software_1": _software,
    "o_software_2": lambda facts: (
        f"Relevé {facts.version}; the full recipe is in run.json{' of each run' if facts.parts else ''}."
    ),
    "o_software_3": _data_available,
    "d_bio_1": _taxa,
    "d_bio_3": lambda facts: "Species, and their communities: the list of a plot.",
    "d_bio_4": _data_sources,
    "d_bio_6": _sample_size,
    "d_bio_8": _scaling,
    "d_bio_9": _cleaning,
    "d_bio_10": _absence,
    "d_bio_11": _background,
    "d_bio_12": _errors,
    "d_part_1": _training_data,
    "d_part_2": _validation_data,
    "d_pred_1": _variables,
    "d_pred_2": _predictor_sources,
    "d_pred_3": _raster_extent,
    "d_pred_4": _raster_resolution,
    "d_pred_5": _crs,
    "d_pred_6": _series_years,
    "d_pred_7": _series_steps,
    "d_pred_8": _processing,
    "d_pred_10": lambda facts: "None.",
}
"""What a run knows of an element; an empty text where it does not know after all."""
