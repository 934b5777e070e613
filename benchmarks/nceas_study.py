"""NCEAS by the ordinary path: each region and survey group a study of records, random places and test plots.

    OMP_NUM_THREADS=1 python benchmarks/nceas_study.py --data path/to/nceas --buffer-km 10 --save

Prepares, trains and predicts with the settings that ``releve run`` chooses where nothing is set, and scores as
``releve benchmark nceas`` does: a species on the plots of its own survey group. Writes nceas_study.md beside this file.
One region: --regions AWT. Without the data, which may not be redistributed, it says so and stops.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import torch

from machine import describe_machine, show_page
from releve import pipeline
from releve.ingest.study import open_source
from releve.nceas.data import Region, RegionFiles, Sites, TestSet, drop_near_tests, find_regions, read_region
from releve.nceas.protocol import score_species
from releve.predict.tables import store_for_prediction
from releve.runs.folder import Run
from releve.runs.predict import Predictor, mean_logits, pool_probs, predicting_models
from releve.store.read import FEW_SPECIES, Store
from releve.study.settings import settings_for

KM_A_DEGREE = 111.195
LON = 20.0
"""Kilometres are written as degrees at the equator, about this meridian, where they are nearly a square grid."""
SEED = 0
RUN = "the run"
STEPS = ("prepare", "train", "predict")
LOOKED_AT = """\
**Mind: the figures of AWT, CAN and SWI flatter these defaults.** The kinds that records of a target group call for, and
what each makes of covariates and random places, were chosen while the scores on these test sites were looked at, about
thirty times in all (the [log](../docs/log.md) of 2026-11-30 counts some twenty of them), beside what the choices of the
blend in [nceas.md](nceas.md), which they come from, had seen. And it is **one seed**: which difference is noise is not
shown. Only regions that were not looked at are evidence."""

BEYOND = f"""\
Of a group with fewer than {FEW_SPECIES} species left, these are no target group: other kinds are chosen."""
BLIND = 'model.modalities=["covariates"]'
WITHOUT_PLACE = f"""\
The same with `--set '{BLIND}'`: without coordinates, as those of [nceas.md](nceas.md) are here."""


@dataclass(frozen=True)
class Measured:
    """What one region gave.

    Parameters
    ----------
    scores
        Of ``score_species``, and the column ``method``: the run, or a kind of member alone.
    seconds
        Of each step, over the survey groups.
    cpu_s, memory_mib
        Of the processor, all steps; and the most memory of the process that did all of it, or of one that it started.
    settings
        A line for each survey group.
    notes
        Of the region: what was dropped, left out or filled.
    """

    scores: pl.DataFrame
    seconds: dict[str, float]
    cpu_s: float
    memory_mib: float
    settings: list[str]
    notes: tuple[str, ...]


def of_group(region: Region, group: int) -> Region:
    """Return the region with what one survey group recorded, and its species on their plots."""
    tests = []
    for test in region.tests:
        own = region.species_group[test.species] == group
        if own.any():
            tests.append(replace(test, species=test.species[own], present_NS=test.present_NS[:, own]))
    return region.keep(region.site_group == group, tuple(tests))


def write_study(region: Region, title: str, folder: Path) -> Path:
    """Write the tables and the study.toml of one survey group of a region, and return the latter."""
    folder.mkdir(parents=True)
    codes = [f"{name}_code" for name in region.categorical]
    site, species = np.nonzero(region.found_NS)
    names = pl.Series("species", np.array(region.species)[species])
    to_table(region, region.sites)[site.tolist()].with_columns(names).write_csv(folder / "records.csv")
    to_table(region, region.background).write_csv(folder / "random.csv")
    given = [f"covariates = {listed([*region.covariates, *codes])}", f"categorical = {listed(codes)}"]
    lines = ["[study]", f'title = "{title}"']
    lines += ["[[study.records]]", 'file = "records.csv"', *given]
    lines += ["[[study.random_places]]", 'file = "random.csv"', *given]
    for number, test in enumerate(region.tests):
        names_S = [region.species[index] for index in test.species]
        found = pl.DataFrame(test.present_NS.astype(int), schema=names_S)
        ids = pl.Series("survey_id", plot_ids(number, test))
        to_table(region, test.sites).with_columns(ids).hstack(found).write_csv(folder / f"test{number}.csv")
        lines += ["[[study.plots]]", 'split = "test"', 'form = "wide"', f'file = "test{number}.csv"', *given]
        lines += [f"species_columns = {listed(names_S)}"]
    lines += ["[clean]", "drop = []", ""]
    (folder / "study.toml").write_text("\n".join(lines), encoding="utf-8")
    return folder / "study.toml"


def to_table(region: Region, sites: Sites) -> pl.DataFrame:
    """Return places and covariates; a code that the training data lack is missing."""
    middle = (region.background.xy_km.max(axis=0) + region.background.xy_km.min(axis=0)) / 2
    degrees = (sites.xy_km - middle) / KM_A_DEGREE
    columns = {"lon": degrees[:, 0] + LON, "lat": degrees[:, 1]}
    columns |= dict(zip(region.covariates, sites.continuous_NC.T, strict=True))
    codes = {f"{name}_code": column for name, column in zip(region.categorical, sites.codes_NK.T, strict=True)}
    known = (pl.when(pl.col(name) >= 0).then(name).alias(name) for name in codes)
    return pl.DataFrame(columns | codes).with_columns(known)


def plot_ids(number: int, test: TestSet) -> list[str]:
    return [f"{number}-{plot}" for plot in range(len(test.sites))]


def listed(names: list[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def measure_region(files: RegionFiles, buffer_km: float, overrides: list[str], folder: Path) -> Measured:
    """Return how runs of a region's survey groups score, in a process of its own so that its memory can be told."""
    region = drop_near_tests(read_region(files), buffer_km)
    rows: list[dict[str, Any]] = []
    seconds, settings = dict.fromkeys(STEPS, 0.0), []
    for group, name in enumerate(region.groups):
        own, title = of_group(region, group), f"{region.name}, {name}"
        if not own.tests:
            continue
        run, target = run_study(write_study(own, title, folder / str(group)), overrides, seconds)
        started = time.monotonic()
        predicted = predict_kinds(run, target)
        seconds["predict"] += time.monotonic() - started
        for method, probs_NS in predicted.items():
            rows += [{"method": method} | row for row in score_species(own, at_plots(own, run, target, probs_NS))]
        settings.append(describe_run(title, run))
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s, memory = sum(each.ru_utime + each.ru_stime for each in used), max(each.ru_maxrss for each in used)
    return Measured(pl.DataFrame(rows), seconds, cpu_s, memory / 1024, settings, region.notes)


def run_study(study: Path, overrides: list[str], seconds: dict[str, float]) -> tuple[Run, Store]:
    """Return the run of a study and the store of its test plots; add what the steps took."""
    started = time.monotonic()
    source, out = open_source(study), study.parent / "run"
    config = settings_for(source, None, overrides).config
    store = pipeline.prepare(config, study, out / "store", seed=SEED, source=source)
    prepared = time.monotonic()
    run = pipeline.train(config, store, out, seed=SEED, overwrite=True)
    trained = time.monotonic()
    target = store_for_prediction(run, source, "test")
    seconds["prepare"] += prepared - started
    seconds["train"] += trained - prepared
    seconds["predict"] += time.monotonic() - trained
    return run, target


def predict_kinds(run: Run, target: Store) -> dict[str, np.ndarray]:
    """Return (N, S) probabilities of the run, and mean logits of the predicting members of each kind."""
    predictor = Predictor.of(run, target)
    models = predictor.models
    parts: dict[str, list[np.ndarray]] = {}
    for rows in predictor.batches():
        logits = {key: mean_logits(run, group, predictor.gatherers[key], rows) for key, group in models.items()}
        found = {RUN: pool_probs(run.decision, models, logits.__getitem__)}
        for kind in dict.fromkeys(kind for _, kind in models):
            found[kind] = torch.stack([logits[key] for key in models if key[1] == kind]).mean(dim=0)
        for method, table in found.items():
            parts.setdefault(method, []).append(table.cpu().numpy())
    return {method: np.concatenate(tables) for method, tables in parts.items()}


def at_plots(region: Region, run: Run, target: Store, probs_NS: np.ndarray) -> list[np.ndarray]:
    """Return (plots, species of the region) scores for each test set, 0 for species that are not scored there."""
    row_of = {name: row for row, name in enumerate(target.surveys["survey_id"].to_list())}
    column_of = {name: column for column, name in enumerate(run.store.species_names)}
    tables = []
    for number, test in enumerate(region.tests):
        rows = [row_of[name] for name in plot_ids(number, test)]
        columns = [column_of[region.species[index]] for index in test.species]
        scores_NS = np.zeros((len(rows), len(region.species)))
        scores_NS[:, test.species] = probs_NS[np.ix_(rows, columns)]
        tables.append(scores_NS)
    return tables


def describe_run(title: str, run: Run) -> str:
    folds = {member.fold for member in run.members if member.fold is not None}
    predicting = predicting_models(run)
    rows = "learned from all rows" if all(fold is None for fold, _ in predicting) else "lack a fold of the rows"
    shares = ", ".join(f"{kind} {decided.share:.2f}" for kind, decided in run.decision.kinds.items())
    return (
        f"{title}: {len(run.store.species_ids):,} species, {len(run.store):,} rows; {len(folds)} of "
        f"{run.config.split.num_folds} folds held out; {sum(map(len, predicting.values()))} of {len(run.members)} "
        f"members predict, which {rows}; shares: {shares}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="folder that holds the regions")
    parser.add_argument("--regions", nargs="+")
    parser.add_argument("--buffer-km", type=float, help="once more without the records nearer than this to a plot")
    parser.add_argument("--set", nargs="*", default=[], help="such as train.num_folds=1, to save time")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    if options.data is None or not options.data.is_dir():
        print(f"no data at --data {options.data}: nothing measured")
        return
    regions = find_regions(options.data, options.regions)
    lines = [*head(options), *section(measure(regions, 0.0, options.set))]
    if options.buffer_km:
        lines += [f"## Only records farther than {options.buffer_km:g} km from every plot", ""]
        lines += [*BEYOND.splitlines(), ""]
        lines += section(measure(regions, options.buffer_km, options.set))
        lines += [*WITHOUT_PLACE.splitlines(), ""]
        lines += section(measure(regions, options.buffer_km, [*options.set, BLIND]))
    show_page(lines, __file__, save=options.save)


def measure(regions: list[RegionFiles], buffer_km: float, overrides: list[str]) -> dict[str, Measured]:
    """Return what each region gave, one after the other."""
    found: dict[str, Measured] = {}
    for files in regions:
        with TemporaryDirectory() as name, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found[files.name] = pool.submit(measure_region, files, buffer_km, overrides, Path(name)).result()
        print(files.name, f"{buffer_km:g} km", found[files.name].seconds, flush=True)
    return found


def head(options: Any) -> list[str]:
    """Return the lines that say what is measured and how."""
    changed = f"`--set {' '.join(options.set)}` and nothing else" if options.set else "nothing"
    buffer = f" --buffer-km {options.buffer_km:g}" if options.buffer_km else ""
    return [
        "# NCEAS by the ordinary path",
        "",
        f"`python benchmarks/nceas_study.py --data DIR{buffer}`. {describe_machine()}, "
        f"{os.environ.get('OMP_NUM_THREADS', 'all')} threads a process, niceness {os.nice(0)}.",
        "",
        "Each region and survey group is a study: the group's records, the benchmark's random places "
        "(`[[study.random_places]]`) and the plots of the test split, with their covariates and coordinates; cleaning "
        f"off (`drop = []`). It is prepared, trained and predicted with {changed} set. AUC and average "
        "precision (AP) of a species on the plots of its own survey group, mean over species. A kind alone is the mean "
        "logits of its members that predict. To compare: [nceas.md](nceas.md), the blend and reference models on the "
        "same plots.",
        "",
        *LOOKED_AT.splitlines(),
        "",
    ]


def section(found: dict[str, Measured]) -> list[str]:
    """Return the lines of the tables, and what was run on what."""
    scored = {name: each for name, each in found.items() if len(each.scores)}
    return [
        *([*scores_table(scored), "", *costs_table(scored), ""] if scored else []),
        *(f"- {line}." for each in scored.values() for line in each.settings),
        *(f"- {name}: {line}." for name, each in found.items() for line in each.notes),
        "",
    ]


def scores_table(found: dict[str, Measured]) -> list[str]:
    """Return AUC and AP of the run and each kind, over all species and by region."""
    table = pl.concat(each.scores for each in found.values())
    num_species = {name: each.scores["species"].n_unique() for name, each in found.items()}
    heads = " | ".join(f"{name} ({number}): AUC | AP" for name, number in num_species.items())
    lines = [
        f"| method | AUC, {sum(num_species.values())} species | AP | {heads} |",
        "|---" * (3 + 2 * len(found)) + "|",
    ]
    for (method,), rows in table.group_by("method", maintain_order=True):
        parts = [rows, *(rows.filter(pl.col("region") == name) for name in found)]
        cells = [f"{part[score].mean():.4f}" if len(part) else "" for part in parts for score in ("auc", "ap")]
        title = method if method == RUN else f"{method} alone"
        if len(rows) < sum(num_species.values()):
            title += f" (of {len(rows)} species)"
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def costs_table(found: dict[str, Measured]) -> list[str]:
    """Return seconds of each step and memory by region."""
    lines = [
        f"| region | {' | '.join(f'{step}, s' for step in STEPS)} | all, s | CPU, s | memory, MiB |",
        "|---" * 7 + "|",
    ]
    for name, each in found.items():
        cells = [f"{each.seconds[step]:,.0f}" for step in STEPS]
        cells += [f"{number:,.0f}" for number in (sum(each.seconds.values()), each.cpu_s, each.memory_mib)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
