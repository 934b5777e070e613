"""Run the NCEAS benchmark: fit, score every species on its own group's plots, compare, tabulate."""

# N plots, S species

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from releve.errors import TableError
from releve.lists import Lists
from releve.metrics.intervals import bootstrap_interval
from releve.metrics.ranks import rank_scores
from releve.nceas.data import Region, drop_near_tests, find_regions, read_region
from releve.nceas.design import LARGEST_SHARE, RANDOM_SITES
from releve.nceas.entry import CHOSEN_ON, predict_blend
from releve.nceas.members import MEMBERS, Scores
from releve.nceas.recipe import predict_po
from releve.nceas.reference import REFERENCES, check_references
from releve.progress import progress_bar

BLEND = "blend of five models"
RECIPE = "releve train, regime po"


@dataclass(frozen=True, eq=False)
class Benchmark:
    """What a run of the benchmark measured.

    Parameters
    ----------
    scores
        One row for each method and species: method, region, group, species, num_plots, num_presences, auc, ap.
    seconds
        (method, region) -> wall time of fitting and predicting.
    settings
        Seed, buffer, regions and members, and a note on how these were chosen.
    notes
        Region -> what was dropped, left out or filled.
    """

    scores: pl.DataFrame
    seconds: dict[tuple[str, str], float]
    settings: dict[str, Any]
    notes: dict[str, tuple[str, ...]]

    def methods(self) -> list[str]:
        """Return the methods in the order they were run, the blend first."""
        return self.scores["method"].unique(maintain_order=True).to_list()

    def summary(self, method: str) -> dict[str, Any]:
        """Return mean AUC and AP over the species of all regions and of each, and the seconds taken."""
        own = self.scores.filter(pl.col("method") == method)
        regions = {
            str(name): {
                "auc": rows["auc"].mean(),
                "ap": rows["ap"].mean(),
                "num_species": len(rows),
                "seconds": round(self.seconds[method, str(name)], 1),
            }
            for (name,), rows in own.group_by("region", maintain_order=True)
        }
        return {
            "mean_auc": own["auc"].mean(),
            "mean_ap": own["ap"].mean(),
            "num_species": len(own),
            "regions": regions,
            "seconds": round(sum(self.seconds[method, str(name)] for name in regions), 1),
        }

    def gain(self, method: str) -> dict[str, float]:
        """Return the mean gain in AUC of the blend over a method with its 95 % interval.

        The same species are compared, and resampled together: a bootstrap over species, as they are what the mean
        is over.
        """
        ours, theirs = (self.scores.filter(pl.col("method") == name) for name in (BLEND, method))
        difference = (ours["auc"] - theirs["auc"]).to_numpy()
        rng = np.random.default_rng(self.settings["seed"])
        low, high = bootstrap_interval(difference, np.arange(len(difference)), rng, num_resamples=5000)
        return {"auc_gain": float(difference.mean()), "auc_gain_low": low, "auc_gain_high": high}

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers for JSON."""
        entry = self.summary(BLEND)
        others = {name: self.summary(name) | self.gain(name) for name in self.methods() if name != BLEND}
        notes = {name: list(lines) for name, lines in self.notes.items()}
        return {"method": BLEND} | entry | {"others": others, "settings": self.settings, "notes": notes}


def run_benchmark(
    folder: Path,
    *,
    seed: int = 0,
    buffer_km: float = 0.0,
    regions: Sequence[str] | None = None,
    references: bool = True,
) -> Benchmark:
    """Return the scores of the blend, of what ``releve train`` makes, and of reference models.

    Parameters
    ----------
    folder
        Holds the regions, see :func:`releve.nceas.data.find_regions`.
    seed
        Of everything random.
    buffer_km
        Presence-only sites nearer than this to any plot are left out, and regions that then have none; coordinates
        are no features then either.
    regions
        Names; all that are found if None.
    references
        Whether to run the reference models as well.

    Raises
    ------
    ReleveError
        If a file is missing or malformed, the buffer is impossible, or MaxEnt is wanted but not installed.
    """
    if references:
        check_references()
    read = [drop_near_tests(read_region(files), buffer_km) for files in find_regions(folder, regions)]
    found = [region for region in read if any(len(test.species) for test in region.tests)]
    if not found:
        raise TableError(
            f"no presence-only site of {[region.name for region in read]} is {buffer_km:g} km from every plot",
            action="Give a smaller --buffer-km",
        )
    seconds: dict[tuple[str, str], float] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    with progress_bar() as bar:
        work = bar.add_task("", total=len(found) * (len(MEMBERS) + 1 + references * len(REFERENCES)))

        def advance() -> None:
            bar.advance(work)

        for region in found:
            for name, predict in {BLEND: predict_blend, RECIPE: predict_po}.items():
                bar.update(work, description=f"{region.name}: {name}")
                with _timed(seconds, name, region.name):
                    scores = predict(region, seed, with_place=buffer_km == 0, advance=advance)
                rows.setdefault(name, []).extend(score_species(region, scores))
            for name, reference in REFERENCES.items() if references else ():
                bar.update(work, description=f"{region.name}: {name}")
                with _timed(seconds, name, region.name):
                    scores = reference(region, seed)
                rows.setdefault(name, []).extend(score_species(region, scores))
                advance()
    table = pl.DataFrame([{"method": name} | row for name, of_method in rows.items() for row in of_method])
    settings = {
        "seed": seed,
        "buffer_km": buffer_km,
        "regions": [region.name for region in found],
        "members": list(MEMBERS),
        "random_sites": RANDOM_SITES,
        "largest_share": LARGEST_SHARE,
        "note": CHOSEN_ON,
    }
    return Benchmark(table, seconds, settings, {region.name: region.notes for region in read})


def score_species(region: Region, scores: Scores) -> list[dict[str, Any]]:
    """Return AUC and average precision of each scored species of a region, one row each.

    Parameters
    ----------
    scores
        One (plots, species) table for each of the region's test sets.
    """
    rows = []
    for test, scores_NS in zip(region.tests, scores, strict=True):
        plots, columns = np.nonzero(test.present_NS)
        truth = Lists.from_pairs(plots, columns, len(test.sites))
        ranks = rank_scores(scores_NS[:, test.species], truth, top_k=())
        for column, species in enumerate(test.species):
            rows.append({
                "region": region.name,
                "group": region.groups[region.species_group[species]],
                "species": region.species[species],
                "num_sites": int(region.found_NS[:, species].sum()),
                "num_plots": len(test.sites),
                "num_presences": int(test.present_NS[:, column].sum()),
                "auc": float(ranks.auc_S[column]),
                "ap": float(ranks.ap_S[column]),
            })  # fmt: skip
    return rows


def overall_rows(benchmark: Benchmark) -> list[dict[str, str]]:
    """Return one printable row for each method: mean AUC and AP over all species, the gain of the blend, seconds."""
    rows = []
    for name in benchmark.methods():
        summary = benchmark.summary(name)
        row = {"method": name, "AUC": _short(summary["mean_auc"]), "AP": _short(summary["mean_ap"])}
        row["gain of the blend, 95 %"] = "" if name == BLEND else _signed(benchmark.gain(name).values())
        rows.append(row | {"s": f"{summary['seconds']:.0f}"})
    return rows


def region_rows(benchmark: Benchmark) -> list[dict[str, str]]:
    """Return one printable row for each region: its number of species, and every method's mean AUC and AP."""
    regions = {name: benchmark.summary(name)["regions"] for name in benchmark.methods()}
    return [
        {"region": f"{region} ({values['num_species']})"}
        | {name: f"{_short(own[region]['auc'])} ({_short(own[region]['ap'])})" for name, own in regions.items()}
        for region, values in regions[BLEND].items()
    ]


def _signed(values: Iterable[float]) -> str:
    gain, low, high = (f"{value:+.3f}".replace("0.", ".") for value in values)
    return f"{gain} ({low} to {high})"


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


@contextmanager
def _timed(seconds: dict[tuple[str, str], float], method: str, region: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[method, region] = time.monotonic() - started
