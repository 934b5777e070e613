"""What the numbers of a run do not say, in plain words; each sentence only where it holds."""

from __future__ import annotations

import numpy as np
import polars as pl

from releve.report.facts import Facts
from releve.report.page import format_count, format_score, is_number
from releve.report.words import counted

FEW_ROWS = 300
RARE = 10
"""Species on at most this many plots are called rare."""


def list_limits(facts: Facts) -> list[str]:
    """Return what a reader must know before using the lists, the most important first."""
    lists = "" if facts.is_ranked else _lists(facts)
    limits = [_small(facts), _places(facts), lists, _rare(facts), _intervals(facts), _choices(facts)]
    limits += [_calibration(facts), _records(facts), _time(facts), _reference(facts)]
    return [limit for limit in limits if limit]


def _small(facts: Facts) -> str:
    """Return what few rows cannot show."""
    num_rows = int((facts.store.labels.lengths() > 0).sum())
    if num_rows >= FEW_ROWS:
        return ""
    few = int(((facts.presences > 0) & (facts.presences <= RARE)).sum())
    return (
        f"These are small data: {counted(num_rows, 'place')} with species. They show which conditions the commoner "
        f"species prefer among those that were visited. They cannot show how one condition acts apart from others that "
        f"vary with it, nor where the limits of a species lie"
        + (f", and of {counted(few, 'species', 'species')} on {RARE} places or fewer hardly anything" if few else "")
        + ". A difference between models that is smaller than its interval says nothing."
    )


def _places(facts: Facts) -> str:
    names = ", ".join(name for name, _ in facts.countries[:8]) + (" and others" if len(facts.countries) > 8 else "")
    median = [row["median_train_km"] for row in facts.leakage if is_number(row.get("median_train_km"))]
    text = f"The scores hold for places like the held-out plots{f' ({names})' if names else ''}"
    if median:
        low, high = f"{min(median):.0f}", f"{max(median):.0f}"
        ends = low if low == high else f"{low} to {high}"
        text += f", which lie {ends} km from the nearest plot trained on (median of each fold)"
    return f"{text}. Farther away, and in environments unlike those of the plots, expect less than the average."


def _lists(facts: Facts) -> str:
    text = (
        "A list is what is likely to be recorded on a plot, not all that grows around it. A species that is not listed "
        "may be there; one that is listed and was not recorded may have been overlooked."
    )
    bias = facts.model.get("richness_bias")
    if is_number(bias) and abs(bias) >= 0.5:
        text += (
            f" On average the lists are {format_score(abs(bias), 1)} species too {'long' if bias > 0 else 'short'}: "
            "their length is no estimate of richness."
        )
    return text


def _rare(facts: Facts) -> str:
    presences = facts.presences
    known = presences > 0
    rare = int((known & (presences <= RARE)).sum())
    text = (
        f"Of {counted(known.sum(), 'species', 'species')}, {format_count(rare)} are on {RARE} plots or fewer; their "
        "probabilities rest on little, and sF1, which common species decide, says nothing about them."
    )
    if "species" in facts.tables:
        unseen = facts.tables["species"].filter(pl.col("num_true") == 0).height
        text += (
            f" {format_count(unseen)} were on no held-out plot, so that nothing is known of how well they are found."
        )
    never = int((~known).sum())
    if never:
        text += f" {format_count(never)} are known from presence-only records alone."
    return text


def _intervals(facts: Facts) -> str:
    seeds = sum(part.config.train.kinds.count("network") for part in facts.trained)
    return (
        f"Intervals say how the scores would vary with other plots of the same region (blocks of "
        f"{facts.bootstrap_km:g} km are drawn anew). They do not hold what would change with another seed of training"
        + (" beyond the seeds that are averaged" if seeds > 1 else "")
        + ", other settings, or another region."
    )


def _choices(facts: Facts) -> str:
    text = "Settings that were tuned on these folds in earlier runs flatter the score; this run cannot know of them."
    if len(facts.folds) < facts.manifest.num_folds:
        held_out = f"{len(facts.folds)} of {facts.manifest.num_folds} folds"
        text = f"Only {held_out} were held out, so that a part of the plots is not scored. {text}"
    if facts.parts:
        text += " The runs of an ensemble may have been picked by their scores on these plots, which flatters it too."
    if len(facts.members) > 1:
        text += " New places are predicted by all members together, held-out plots by a part of them."
    return text


def _calibration(facts: Facts) -> str:
    slope = facts.model.get("calibration_slope")
    if is_number(slope) and not 0.9 <= slope <= 1.1:
        return (
            f"Probabilities are {'too extreme' if slope < 1 else 'too timid'} on held-out plots (calibration slope "
            f"{format_score(slope, 2)}, where 1 is right): use them to rank species, with care as chances."
        )
    return ""


def _records(facts: Facts) -> str:
    if not facts.num_pseudoplots:
        return ""
    if not facts.num_plots:
        return (
            "There are no plots: lists are scored against presence-only records, which are incomplete. Scores compare "
            "models with each other; they do not say how many listed species are there."
        )
    return (
        "Presence-only records say where people looked, and what they found worth recording; their bias is reduced, "
        "not removed."
    )


def _time(facts: Facts) -> str:
    if facts.years is None:
        return ""
    first, last = facts.years
    years = f"{first}" if first == last else f"{first} to {last}"
    return f"Surveys are of {years}. Nothing was tested on later years, and nothing here is a forecast."


def _reference(facts: Facts) -> str:
    uncertainty = facts.numbers_of("uncertainty_m")
    if not len(uncertainty):
        return ""
    return (
        f"Places are known to {np.median(uncertainty):,.0f} m (median of {format_count(len(uncertainty))} plots that "
        "say); what varies over shorter distances cannot be learned."
    )
