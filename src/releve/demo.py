"""The whole job on a virtual world: simulate, prepare, train, decide, score beside references and the oracle."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from releve import pipeline
from releve.config import Config, make_config
from releve.decide.calibration import fit_calibration, to_logits
from releve.decide.expected_f1 import expected_f1_sets
from releve.evaluate.references import REFERENCE_MODELS
from releve.evaluate.references.design import make_design
from releve.evaluate.submission import read_submission
from releve.explain.explain import Asked
from releve.files import make_way
from releve.ingest.release import open_release
from releve.lists import Lists
from releve.metrics.ranks import RankScores, rank_scores
from releve.metrics.sets import SetScores, score_sets
from releve.predict.maps.draw import Request, draw_maps
from releve.progress import quiet_progress, say, track
from releve.report.demo import DemoResult, write_demo_report
from releve.runs.folder import open_run
from releve.runs.predict import predict_probs
from releve.runs.provenance import write_provenance
from releve.simulate.config import SimulateConfig
from releve.simulate.write import simulate_release
from releve.store.build import build_store
from releve.store.chunks import num_cores
from releve.store.contents import read_contents
from releve.store.read import Store, open_store
from releve.train.rows import fold_rows

SEEDS = 3
FUSED = "all modalities"
MODALITIES = ("covariates", "patch", "landsat", "climate", "location")
REFERENCES = ("frequency", "nearest places", "nearest environments", "extra trees")
NUM_EXAMPLES = 6
MAP_CELL_M = 4_000
"""Side of the cells of the demo's maps: the rasters have 2,000 m."""
ENTRIES = ("release", "store", "test-store", "runs", "maps", "explain", "scores.csv", "report.html")
"""What a demo's folder holds beside ``run.json``."""

RECIPE: dict[str, Any] = {
    "title": "demo",
    "split": {"num_folds": 5, "block_size_km": 50},
    "model": {
        "embedding_dim": 128,
        "hidden_dim": 256,
        "series_width": 16,
        "patch_backbone": "test_resnet",  # timm's smallest residual network: minutes count here
        "patch_pool": 4,
    },
    "train": {"epochs": 20, "patience": 5, "batch_size": 64, "learning_rate": 0.001},
}


@dataclass
class Scoreboard:
    """Scores on the test plots, whose species only the simulator knows, one row a model and seed."""

    truth: Lists
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, model: str, kind: str, seed: int, sets: SetScores, ranks: RankScores | None) -> None:
        """Enter one model."""
        self.rows.append(
            {
                "model": model,
                "kind": kind,
                "seed": seed,
                "sample_f1": sets.sample_f1,
                "macro_f1": sets.macro_f1,
                "auc_macro": ranks.auc_macro if ranks else None,
            }
        )


def run_demo(out: Path, *, seed: int = 0, overwrite: bool = False, world: SimulateConfig | None = None) -> Path:
    """Run the demo in a folder and return the path of its page.

    Parameters
    ----------
    out
        Gets the release, the store, the runs, the maps of one of them, what drives another, ``scores.csv`` and
        ``report.html``.
    seed
        Seed of the world; the models use ``seed``, ``seed`` + 1 and ``seed`` + 2.
    overwrite
        Replace an earlier demo.
    world
        Another world than the default one.

    Raises
    ------
    RunError
        If the folder is in use and may not be replaced, or holds something else than an earlier demo.
    """
    started = time.monotonic()
    make_way(out, "demo", overwrite=overwrite)
    out.mkdir(parents=True, exist_ok=True)
    write_provenance(out, "demo", started, seed=seed, entries=ENTRIES)  # so that a killed demo is known for one
    runtime: dict[str, float] = {}

    def timed(step: str, since: float) -> None:
        runtime[step] = time.monotonic() - since
        say(f"{step}: {runtime[step]:.0f} s")

    since = time.monotonic()
    world = world or SimulateConfig(seed=seed)
    simulate_release(world, out / "release")
    timed("simulate a world", since)

    since = time.monotonic()
    config = make_config(RECIPE, origin="the demo's recipe")
    store = pipeline.prepare(config, out / "release", out / "store", seed=seed)
    settings = config.data.model_copy(update={"splits": ("test",)})
    test = build_store(read_contents(open_release(out / "release"), settings), None, out / "test-store")
    truth = read_truth(out / "release", test, store)
    board = Scoreboard(truth)
    timed("prepare the stores", since)

    since = time.monotonic()
    jobs = [(name, modalities, k) for name, modalities in model_plan(store) for k in range(seed, seed + SEEDS)]
    fused: list[tuple[Lists, NDArray[np.float64]]] = []
    for (name, _, model_seed), (probs, lists) in zip(jobs, train_all(config, store, test, jobs, out), strict=True):
        sets = score_sets(lists, truth, len(store.species_ids))
        kind = "fused" if name == FUSED else "modality"
        board.add(name, kind, model_seed, sets, rank_scores(probs, truth))
        if name == FUSED:
            fused.append((lists, sets.per_survey_f1))
    timed(f"train {len(jobs)} models", since)

    since = time.monotonic()
    for name, model_seed, probs_NS in fit_references(config, store, test, seed):
        lists = expected_f1_sets(probs_NS)
        board.add(
            name, "reference", model_seed, score_sets(lists, truth, probs_NS.shape[1]), rank_scores(probs_NS, truth)
        )
    facts = json.loads((out / "release" / "truth" / "truth.json").read_text(encoding="utf-8"))
    board.rows.append({"model": "oracle", "kind": "oracle", "seed": seed, "sample_f1": facts["oracle_sf1"]})
    timed("fit the reference models", since)

    fused_f1 = np.mean([f1 for _, f1 in fused], axis=0)
    result = DemoResult(
        title="Relevé demo",
        seconds=time.monotonic() - started,
        seeds=tuple(range(seed, seed + SEEDS)),
        facts=world_facts(world, store, test),
        scores=pl.DataFrame(board.rows, infer_schema_length=None),
        plots=plot_table(store, test, fused_f1),
        examples=example_table(store, test, fused[0][0], truth, fused_f1, np.random.default_rng(seed)),
        runtime=runtime,
    )
    result.scores.write_csv(out / "scores.csv")
    write_demo_report(result, out / "report.html")
    since = time.monotonic()
    if "covariates" in store.arrays:
        rasters = out / "release" / "EnvironmentalRasters" / "Rasters"
        draw_maps(out / "runs" / f"covariates-seed-{seed}", out / "maps", Request(rasters, resolution_m=MAP_CELL_M))
        timed("draw the maps", since)
    since = time.monotonic()
    fused_run = out / "runs" / f"{FUSED.replace(' ', '-')}-seed-{seed}"
    pipeline.explain(open_run(fused_run), Asked(), out / "explain", seed=seed)
    timed("explain the model of all modalities", since)
    facts = {"seed": seed, "config": config.model_dump(mode="json"), "timings": runtime}
    write_provenance(out, "demo", started, **facts, entries=ENTRIES)
    return out / "report.html"


def model_plan(store: Store) -> list[tuple[str, tuple[str, ...]]]:
    """Return the models to train: all modalities, then each alone."""
    alone = [(name, (name,)) for name in MODALITIES if name == "location" or name in store.arrays]
    everything = ("covariates", "survey", "location", "landsat", "climate", "patch")
    return [(FUSED, everything), *alone]


def train_all(
    config: Config, store: Store, test: Store, jobs: list[tuple[str, tuple[str, ...], int]], out: Path
) -> Iterator[tuple[NDArray[np.float32], Lists]]:
    """Yield each job's probabilities and lists of the test plots, in the order of the jobs.

    The networks are small, so that a process for each core is faster than all cores on one network. The dearest
    jobs come first.
    """
    cores = num_cores()
    workers = min(cores, len(jobs))
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (cores // workers,)) as pool:
        folders = [out / "runs" / f"{name.replace(' ', '-')}-seed-{seed}" for name, _, seed in jobs]
        futures = [
            pool.submit(train_one, config, store.path, test.path, modalities, folder, seed)
            for (_, modalities, seed), folder in zip(jobs, folders, strict=True)
        ]
        try:
            yield from track((future.result() for future in futures), "train", total=len(futures))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def train_one(
    config: Config, store: Path, test: Path, modalities: tuple[str, ...], out: Path, seed: int
) -> tuple[NDArray[np.float32], Lists]:
    """Train the recipe on some modalities and return its probabilities and lists of the test plots."""
    config = config.model_copy(update={"model": config.model.model_copy(update={"modalities": modalities})})
    with quiet_progress():
        run = pipeline.train(config, open_store(store), out, seed=seed)
    probs = torch.cat([block.cpu() for _, block in predict_probs(run, open_store(test))])
    return probs.numpy(), run.decision.lists(probs)


def fit_references(
    config: Config, store: Store, test: Store, seed: int
) -> Iterator[tuple[str, int, NDArray[np.float32]]]:
    """Yield name, seed and calibrated (N, S) probabilities of the test plots by each reference model.

    They see the tables that the network of all modalities sees, are fitted on the training rows of the first fold,
    and calibrated on its held-out rows, as the networks.
    """
    fold = fold_rows(store, 0, config.split)
    places = ((store, fold.held_out), (test, np.arange(len(test))))
    held_out, asked = (make_design(store, fold.plots, *place, config.model.modalities, seed) for place in places)
    for name in REFERENCES:
        predict = REFERENCE_MODELS[name]
        for model_seed in range(seed, seed + SEEDS if name == "extra trees" else seed + 1):
            ours, theirs = (to_logits(np.clip(predict(d, model_seed), 1e-6, 1 - 1e-6)) for d in (held_out, asked))
            calibration = fit_calibration(ours, store.labels.take(fold.held_out))
            yield name, model_seed, np.asarray(calibration.apply(theirs))


def read_truth(release: Path, test: Store, store: Store) -> Lists:
    """Return the test plots' species in the columns of the labelled store; those never seen in training lie beyond."""
    solution = read_submission(release / "truth" / "test_solution.csv", columns=("target_species_ids",))
    ids = test.surveys.select("survey_id").join(
        solution.rename({"surveyId": "survey_id"}), on="survey_id", how="left", maintain_order="left"
    )["species"]
    known = {int(species): i for i, species in enumerate(store.species_ids)}
    for species in sorted({s for row in ids for s in row}):
        known.setdefault(int(species), len(known))
    return Lists.from_rows([[known[int(s)] for s in row] for row in ids])


def world_facts(world: SimulateConfig, store: Store, test: Store) -> dict[str, str]:
    """Return the counts for the head of the page."""
    return {
        "training plots": f"{len(store):,}",
        "test plots": f"{len(test):,}",
        "presence-only records": f"{world.num_records:,}",
        "species in training plots": f"{len(store.species_ids):,}",
        "species a plot": f"{store.labels.lengths().mean():.1f}",
    }


def plot_table(store: Store, test: Store, f1: NDArray[np.float64]) -> pl.DataFrame:
    """Return lon, lat, country of all plots, and the fused model's F1 of the test plots."""
    columns = ["lon", "lat", "country"]
    train = store.surveys.select(columns).with_columns(set=pl.lit("train"), f1=pl.lit(None, pl.Float64))
    return pl.concat([train, test.surveys.select(columns).with_columns(set=pl.lit("test"), f1=f1)])


def example_table(
    store: Store, test: Store, lists: Lists, truth: Lists, f1: NDArray[np.float64], rng: np.random.Generator
) -> pl.DataFrame:
    """Return a few test plots drawn at random, with predicted and observed lists of species ids."""
    rows = np.sort(rng.choice(len(test), min(NUM_EXAMPLES, len(test)), replace=False))

    def names(row: NDArray) -> str:
        return " ".join(str(store.species_ids[i]) if i < len(store.species_ids) else "?" for i in row)

    return pl.DataFrame(
        {
            "survey_id": test.surveys["survey_id"].to_numpy()[rows],
            "country": [test.surveys["country"][int(i)] for i in rows],
            "predicted": [names(lists.row(int(i))) for i in rows],
            "observed": [names(truth.row(int(i))) for i in rows],
            "f1": f1[rows],
        }
    )
