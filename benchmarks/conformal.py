"""Coverage of conformal lists on simulated plots, where they are exchangeable and where countries differ.

    python benchmarks/conformal.py [--worlds 8]

In every world, trees learn from the rasters under 60 % of the train plots; the other 40 % calibrate lists that are to
hold 90 % of a plot's species. Test plots lie among the train plots (``seen``), on held-back blocks of 0.5 degrees, or
in countries without a train plot. Writes conformal.md beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.ensemble import ExtraTreesRegressor

from machine import describe_machine
from releve.decide.calibration import fit_calibration, to_logits
from releve.decide.conformal import miss_rate_threshold
from releve.decide.rules import threshold_sets
from releve.evaluate.coverage import COVERAGE, coverage_table
from releve.files import write_text
from releve.lists import Lists
from releve.simulate.config import SimulateConfig
from releve.simulate.species import make_species
from releve.simulate.surveys import draw_presences, sample_landscape, sample_plots, visit_features
from releve.simulate.world import make_world

NUM_SPECIES = 150


def simulate(seed: int) -> tuple[pl.DataFrame, np.ndarray, Lists]:
    """Return plots, what the rasters say of each, and what grows there."""
    config = SimulateConfig(
        num_plots=2500, num_test_plots=2000, num_species=NUM_SPECIES, unseen_share=0.7, tables_only=True, seed=seed
    )
    rng = np.random.default_rng(seed)
    world = make_world(config, rng)
    landscape = visit_features(world, sample_landscape(world, 3000, rng))
    species = make_species(NUM_SPECIES, landscape, rng, richness=config.richness)
    plots = sample_plots(world, config, rng)
    found = draw_presences(species, visit_features(world, plots), rng, with_oracle=False).presences
    at = plots["row"].to_numpy(), plots["col"].to_numpy()
    environment = np.stack([layer[at] for layer in world.drivers.values()], axis=1).astype(np.float64)
    return plots, environment, Lists.from_pairs(found["row"].to_numpy(), found["species_index"].to_numpy(), len(plots))


def run_world(seed: int) -> list[dict[str, object]]:
    """Return the coverage of the lists in each stratum of a world."""
    plots, environment, truth = simulate(seed)
    rng = np.random.default_rng(seed)
    train = rng.permutation(np.flatnonzero(plots["split"].to_numpy() == "train"))
    learn, calibrate = np.split(train, [int(0.6 * len(train))])
    trees = ExtraTreesRegressor(150, min_samples_leaf=5, max_features=0.5, random_state=seed)
    trees.fit(environment[learn], truth.take(learn).to_csr(NUM_SPECIES).toarray())
    logits = to_logits(trees.predict(environment).clip(1e-6, 1 - 1e-6))
    probs = fit_calibration(logits[calibrate], truth.take(calibrate)).apply(logits)
    threshold = miss_rate_threshold(probs[calibrate], truth.take(calibrate), COVERAGE)
    strata, countries = plots["stratum"].to_numpy(), plots["country"].to_numpy()
    is_test = plots["split"].to_numpy() == "test"
    rows: list[dict[str, object]] = []
    targets = {name: np.flatnonzero(is_test & (strata == name)) for name in ("seen", "block")}
    for country in np.unique(countries[is_test & (strata == "country")]):
        targets[str(country)] = np.flatnonzero(is_test & (strata == "country") & (countries == country))
    for stratum, target in targets.items():
        if len(target) < 50:
            continue
        lists = threshold_sets(probs[target], threshold, min_size=0)
        scores = coverage_table(lists, truth.take(target), {}, blocks=target, seed=seed).row(0, named=True)
        rows.append({"world": seed, "stratum": stratum, "calibration": len(calibrate)} | scores)
    return rows


def report(table: pl.DataFrame) -> str:
    """Return the table in Markdown."""
    summary = table.group_by("stratum", maintain_order=True).agg(
        pl.len().alias("worlds"),
        pl.col("coverage").mean(),
        pl.col("coverage").min().alias("lowest"),
        pl.col("coverage").max().alias("highest"),
        pl.col("false_list_rate").mean(),
        pl.col("list_length").mean(),
    )
    num_worlds, calibration = table["world"].n_unique(), int(table["calibration"][0])
    lines = [
        "# Lists that keep a promise, under shift\n",
        f"`python benchmarks/conformal.py --worlds {num_worlds}` on {describe_machine()}.\n",
        f"{num_worlds} simulated worlds of {NUM_SPECIES} species, {calibration} calibration plots in each. `coverage` "
        "is the mean share of a plot's species that its list holds, promised .9; `lowest` and `highest` are over "
        "worlds. `false` is the share of the list that is not there.\n",
        "| stratum | worlds | coverage | lowest | highest | false | length |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in summary.iter_rows(named=True):
        lines.append(
            f"| {row['stratum']} | {row['worlds']} | {row['coverage']:.3f} | {row['lowest']:.3f} | "
            f"{row['highest']:.3f} | {row['false_list_rate']:.3f} | {row['list_length']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=8)
    table = pl.DataFrame([row for seed in range(parser.parse_args().worlds) for row in run_world(seed)])
    text = report(table)
    print(text)
    write_text(Path(__file__).with_suffix(".md"), text)


if __name__ == "__main__":
    main()
