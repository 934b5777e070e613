"""Settings chosen from the data, where a study gives no recipe; each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releve.geo import block_ids
from releve.prepare.config import CleanConfig
from releve.store.read import FEW_SPECIES

SIDES_KM = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
USUAL_SIDE_KM = 50.0
"""Blocks are not made larger than this unless the rasters' cells call for it."""
BLOCKS_A_FOLD = 8
"""Blocks that folds are dealt from, where the data have so many: fewer make folds unlike one another."""
NUM_FOLDS = 5
FEW_PLOTS = 20
"""Fewer plots than this beside records only validate and calibrate: nothing can be learned from them alone."""


@dataclass(frozen=True)
class Facts:
    """What of a study decides its settings."""

    plot_lon: NDArray[np.float64]
    plot_lat: NDArray[np.float64]
    record_lon: NDArray[np.float64]
    record_lat: NDArray[np.float64]
    """Places at which something was recorded, without the random ones; in degrees, as those of the plots."""
    num_species: int
    num_random: int = 0
    """Random places beside the records."""
    modalities: tuple[str, ...] = ()
    """What the study holds of ``covariates``, ``landsat``, ``climate`` and ``patch``."""
    has_survey_facts: bool = False
    """Whether plots tell of area, uncertainty, year, country or region."""
    has_countries: bool = False
    """Whether records name a country."""
    cell_km: float = 0.0
    """Side of the largest cell of the rasters, or of a patch: nearer places share what is known of them."""

    @property
    def regime(self) -> str:
        """What there is to train on."""
        if not len(self.record_lon):
            return "pa"
        return "presence" if len(self.plot_lon) >= FEW_PLOTS else "po"


@dataclass(frozen=True)
class Choice:
    """Settings and why."""

    settings: dict[str, dict[str, Any]]
    """Sections of a recipe."""
    reasons: tuple[str, ...]
    """A sentence each."""


def choose_settings(facts: Facts) -> Choice:
    """Return the settings that the data call for.

    Parameters
    ----------
    facts
        Counts, places and modalities.

    Returns
    -------
    Choice
        Regime, folds, blocks and buffer, sizes and epochs, with a sentence for each.
    """
    regime = facts.regime
    scored = (facts.plot_lon, facts.plot_lat) if len(facts.plot_lon) else (facts.record_lon, facts.record_lat)
    split, why_split = _choose_split(*scored, facts.cell_km)
    num_plots, num_records = len(facts.plot_lon), len(facts.record_lon)
    num_labelled = {"pa": num_plots, "po": num_records}.get(regime, num_plots + num_records)
    is_target_group = facts.num_species >= FEW_SPECIES
    num_silent = 0 if is_target_group else facts.num_random
    network, why_network = _choose_network(num_labelled, num_silent, facts.num_species)
    kinds = ["network", "forest", *["booster"] * (2 if num_labelled <= MOST_REFITTED else 1)]
    of_target_group = regime == "po" and not num_plots and is_target_group
    if of_target_group:
        kinds = [*(["network"] if set(facts.modalities) - {"covariates"} else []), "softmax", "hinge", "forest"]
    modalities = [*facts.modalities, *(["survey"] if facts.has_survey_facts and regime != "po" else []), "location"]
    settings: dict[str, dict[str, Any]] = {
        "data": {
            "splits": ["train"] if num_plots else [],
            "records": "po" if num_records else None,
            "modalities": list(facts.modalities),
        },
        "split": split,
        "model": {"modalities": modalities, **network["model"]},
        "train": {"regime": regime, "num_folds": split["num_folds"], "kinds": kinds, **network["train"]},
    }
    reasons = [_why_regime(facts), why_split, why_network]
    if num_records:
        settings |= _choose_cleaning(facts)
    if regime == "po":
        settings["records"] = {"observation_head": False}
        settings["evaluate"] = {"references": [*REFERENCES_OF_RECORDS]}
    if of_target_group:
        settings["decide"] = {"join": "logits"}
    if facts.num_random:
        settings["train"]["selection_share"] = 0.0
        reasons.append(_why_random(facts))
    if num_silent:
        settings["records"]["thinning"] = 0.0
    return Choice(settings, tuple(reasons))


REFERENCES_OF_RECORDS = ("frequency", "nearest environments", "logistic", "extra trees", "boosted trees", "MaxEnt")


def _why_regime(facts: Facts) -> str:
    num_plots, num_records = len(facts.plot_lon), len(facts.record_lon)
    return {
        "pa": f"Trained on {num_plots:,} plots: all species of a place were looked for, so that silence is absence",
        "po": f"Trained on {num_records:,} places of records alone: what is predicted is how suitable a place is "
        "beside others, not how often a species is there",
        "few": f"Trained on {num_records:,} places of records; {num_plots} plots are too few to learn from, and show "
        "how good it is",
        "presence": f"Trained on {num_plots:,} plots and {num_records:,} places of records together",
    }["few" if facts.regime == "po" and num_plots else facts.regime]


def _why_random(facts: Facts) -> str:
    if facts.num_species >= FEW_SPECIES:
        return (
            f"A share of the silence, the smaller the more places have records, is taken from {facts.num_random:,} "
            "random places, the rest where other species were recorded"
        )
    return (
        f"Silence is taken from {facts.num_random:,} random places as well: {facts.num_species} species are too "
        "few to show by one another where people looked"
    )


def _choose_cleaning(facts: Facts) -> dict[str, dict[str, Any]]:
    """Return the sections ``clean`` and ``pseudoplots``: records need not be surer of their place than a raster's cell.

    A tenth of a degree is 11 km. Records of many species are grouped in squares of 1 km at least, so that they tell of
    one another's absence; of few species, in a raster's cells.
    """
    cell_m = 1000 * facts.cell_km
    clean: dict[str, Any] = {"max_uncertainty_m": max(1000.0, cell_m / 2)}
    clean["min_decimals"] = 2 if cell_m < 5_000 else 1 if cell_m < 25_000 else 0
    if cell_m >= 5_000:
        clean["grid_deg"] = 0.0
    if facts.has_countries:
        clean["drop"] = [*CleanConfig().drop, "country_mismatch"]
    side_m = max(100.0 if facts.num_random else 1000.0, cell_m)
    uncertainty = {"uncertainty": "ignore"} if side_m < 2 * clean["max_uncertainty_m"] else {}
    return {"clean": clean, "pseudoplots": {"size_m": float(f"{side_m:.3g}"), **uncertainty}}


def _choose_split(lon: NDArray[np.float64], lat: NDArray[np.float64], cell_km: float) -> tuple[dict[str, Any], str]:
    """Return the section ``split``: the largest blocks that still make folds alike, wider than two raster cells."""
    sides = [side for side in SIDES_KM if side >= 2 * cell_km] or [SIDES_KM[-1]]
    usual = [side for side in sides if side <= USUAL_SIDE_KM] or sides[:1]
    num_blocks = {side: len(np.unique(block_ids(lon, lat, side))) for side in usual}
    wanted = min(BLOCKS_A_FOLD * NUM_FOLDS, len(lon) // 3)
    side = next((side for side in reversed(usual) if num_blocks[side] >= wanted), usual[0])
    num_folds = max(2, min(NUM_FOLDS, num_blocks[side] // 2))
    buffer_km = float(f"{max(side / 50, 1.05 * cell_km):.2g}")
    why = (
        f"{num_folds} folds of {num_blocks[side]} blocks of {side:g} km, and {buffer_km:g} km between training and "
        "held-out places"
    )
    if cell_km:
        why += f": the largest cell of the rasters has {cell_km:.3g} km, and places in one cell cannot be told apart"
    return {"block_size_km": side, "buffer_km": buffer_km, "num_folds": num_folds}, why


def _choose_network(num_labelled: int, num_random: int, num_species: int) -> tuple[dict[str, dict[str, Any]], str]:
    """Return sizes and epochs: the fewer rows, the narrower the layers, the more hidden and the more passes."""
    width = next(width for most, width in WIDTHS if num_labelled <= most)
    num_rows = num_labelled + num_random
    batch_size = int(2 ** np.clip(np.round(np.log2(num_rows / STEPS_AN_EPOCH)), 4, 9))
    epochs = int(np.clip(LEAST_STEPS // (num_rows / batch_size), 15, 60))
    dropout = 0.4 if num_labelled <= 10_000 else 0.2
    model = {"embedding_dim": width, "hidden_dim": 2 * width, "dropout": dropout, "input_dropout": 0.1}
    train: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "weight_decay": 0.1}
    train["refit"] = num_labelled <= MOST_REFITTED
    why = f"{num_labelled:,} rows and {num_species:,} species: layers of {width} and {2 * width}, {epochs} epochs"
    if num_labelled < FEW_TO_SELECT or num_random:
        train["selection_share"] = 0.0
        why += ", all of them, as there is too little to select one on"
    return {"model": model, "train": train}, why


WIDTHS: Sequence[tuple[float, int]] = ((300, 64), (1_500, 128), (50_000, 256), (float("inf"), 512))
"""Most rows with species -> width of the embeddings."""
STEPS_AN_EPOCH = 30
LEAST_STEPS = 600
FEW_TO_SELECT = 300
MOST_REFITTED = 10_000
"""With more rows the folds' members are as good as ones trained on all, and one seed of boosted trees as two."""
