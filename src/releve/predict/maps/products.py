"""The images of a map: which of a tile's numbers each holds, its unit, and how people read it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from releve.decide.richness import COVERAGE


@dataclass(frozen=True)
class Image:
    """An image with one band for each of some arrays of a tile."""

    name: str
    arrays: tuple[str, ...]
    title: str
    unit: str
    reading: str
    resampling: str = "average"
    """How overviews are made: ``mode`` where numbers are codes."""


IMAGES = (
    Image(
        "richness",
        ("richness", "richness_low", "richness_high"),
        "Expected number of species",
        "species on a plot",
        "How many species a survey of the stated plot area is expected to find; the second and third bands are the "
        f"ends of an interval that {COVERAGE:.0%} of held-out plots keep to.",
    ),
    Image(
        "list_length",
        ("list_length",),
        "Length of the species list",
        "species",
        "How many species the list of a cell holds: the run's rule applied to the cell's probabilities.",
    ),
    Image(
        "rarity",
        ("rarity",),
        "Rarity-weighted number of species",
        "species, each divided by its training rows",
        "Where species that few training rows hold are expected: each species counts by one over the number of "
        "training rows that hold it, times its probability.",
    ),
    Image(
        "entropy",
        ("entropy",),
        "Undecided",
        "bits",
        "How much is left open about which species grow in a cell: 0 where every species is surely there or not, one "
        "more for each species that is as likely as not.",
    ),
    Image(
        "spread",
        ("spread",),
        "Disagreement between the run's members",
        "share of the expected number of species",
        "How far the models of a run are from each other: where it is high, another run would show another map.",
    ),
    Image(
        "dissimilarity",
        ("dissimilarity",),
        "Dissimilarity to the training places",
        "mean distances between training places",
        "How far a cell's environment is from the nearest one that the model learned from, as the model sees it.",
    ),
    Image(
        "mess",
        ("mess",),
        "Similarity of the covariates to training",
        "percent of the training range",
        "Below 0, at least one covariate lies outside the range that was seen in training, by so many percent of it.",
    ),
    Image(
        "most_dissimilar",
        ("most_dissimilar",),
        "The covariate that is least like training",
        "number of a covariate, see the tags",
        "Which covariate makes a cell new to the model.",
        "mode",
    ),
    Image(
        "outside",
        ("outside",),
        "Outside the area of applicability",
        "1: outside",
        "Where it is 1 the model guesses: no training place was like this, and no error measured on held-out plots "
        "holds.",
        "mode",
    ),
)


def top_image(num_top: int) -> Image:
    """Return the image of the most probable species."""
    return Image(
        "top_species",
        tuple(f"top_{rank}" for rank in range(1, num_top + 1)),
        "The most probable species",
        "species_index, see species.csv",
        "Which species are the most probable ones of a cell, the first band the likeliest.",
        "mode",
    )


def group_image(name: str) -> Image:
    """Return the image of an indicator."""
    return Image(
        f"indicator_{name}",
        (f"{name}:expected", f"{name}:any"),
        f"Species of {name}",
        "species; probability",
        f"How many species of {name} are expected on a plot, and how probable it is that at least one is there.",
    )


def images_of(arrays: Iterable[str], num_top: int, groups: Iterable[str]) -> list[Image]:
    """Return the images that can be made of a map's arrays."""
    there = set(arrays)
    wanted = [*IMAGES, top_image(num_top), *map(group_image, groups)]
    return [image for image in wanted if there.issuperset(image.arrays)]
