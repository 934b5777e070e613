"""Community data sets of other people: every kind of member, their join, and logistic regression, on all splits.

    python benchmarks/community.py --data path/to/plots --sets birds butterfly trees

Each set is a wide table with a column that says which plots are kept for the test: at random, apart in space or apart
in environment. One run a split trains a network, a forest and boosted trees on spatial folds of the training plots,
without a recipe: with the settings that are chosen from the data. Each kind alone is what the run predicts by that
kind. Writes community.md beside this file.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from machine import describe_machine
from releve import pipeline
from releve.config import Config
from releve.decide.decision import fit_decision
from releve.evaluate.held_out import fold_designs, predict_reference
from releve.evaluate.references import REFERENCE_MODELS
from releve.evaluate.references.design import make_design
from releve.ingest.study import open_source
from releve.lists import Lists
from releve.metrics.ranks import rank_scores
from releve.progress import quiet_progress
from releve.runs.folder import Run
from releve.runs.predict import predict_held_out, predict_probs
from releve.store.build import build_store
from releve.store.contents import read_contents
from releve.store.read import Store
from releve.study.settings import settings_for
from releve.train.rows import fold_rows

ROOT = Path(__file__).parents[1]
SPLITS = {1: "at random", 2: "apart in space", 3: "apart in environment"}
PROJECTION = {"birds": "EPSG:3035", "butterfly": "EPSG:27700"}
"""Where the kilometres of a table lie; those of the others are degrees."""
LOGISTIC = "logistic"
NAMES = {"network": "network", "forest": "extra trees", "booster": "boosted trees"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "plots")
    parser.add_argument("--sets", nargs="+", default=["birds", "butterfly", "trees"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"no data at {options.data}: nothing measured")
        return
    started, rows = time.monotonic(), []
    for name in options.sets:
        for split in SPLITS:
            with tempfile.TemporaryDirectory() as folder, quiet_progress():
                study = write_study(options.data / name / f"split_{split}.csv", Path(folder), name)
                rows += score_split(study, Path(folder), options.seed, {"set": name, "split": split})
            print(pl.DataFrame(rows[-len(NAMES) - 2 :]), flush=True)
    text = make_page(pl.DataFrame(rows), time.monotonic() - started, options.seed)
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def write_study(table: Path, folder: Path, name: str) -> Path:
    """Write the table with coordinates in metres or degrees, and a study.toml that says what its columns mean."""
    metres = name in PROJECTION
    plots = pl.read_csv(table).with_columns(pl.col("x_km", "y_km") * (1000 if metres else 1))
    plots = plots.rename({"x_km": "x" if metres else "lon", "y_km": "y" if metres else "lat"})
    plots.write_csv(folder / "plots.csv")
    text = '[[study.plots]]\nfile = "plots.csv"\nform = "wide"\nspecies_columns = ["sp_*"]\ncovariates = ["env_*"]\n'
    text += f'crs = "{PROJECTION[name]}"\n' if metres else ""
    (folder / "study.toml").write_text(text + 'columns = { survey_id = "plot", split = "split" }\n')
    return folder / "study.toml"


def score_split(study: Path, folder: Path, seed: int, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row a model: its scores on the test plots."""
    config = settings_for(open_source(study), None).config
    store = pipeline.prepare(config, study, folder / "store", seed=seed)
    run = pipeline.train(config, store, folder / "run", seed=seed)
    apart = config.data.model_copy(update={"splits": ("test",)})
    test = build_store(read_contents(open_source(study), apart), None, folder / "test")
    truth = truth_of(test, store)
    rows, logits = predict_held_out(run)
    observed = store.labels.take(rows)
    found = {"joined": predict_all(run, test)}
    for kind, name in NAMES.items():
        decision = fit_decision({kind: logits[kind]}, observed, config.decide)
        decision = decision.stretched({kind: run.decision.kinds[kind].stretch})
        alone = Run(run.path, run.config, run.seed, run.members)
        alone.__dict__.update(decision=decision, models=run.models, store=store)
        found[name] = predict_all(alone, test)
    found[LOGISTIC] = predict_logistic(config, store, rows, test, seed)
    return [facts | {"model": name} | score(probs, truth) for name, probs in found.items()]


def predict_all(run: Run, store: Store) -> np.ndarray:
    return torch.cat([probs for _, probs in predict_probs(run, store)]).numpy()


def predict_logistic(config: Config, store: Store, rows: np.ndarray, test: Store, seed: int) -> np.ndarray:
    """Return what logistic regression on all training plots says, calibrated on what it says of held-out folds."""
    designs = fold_designs(store, rows, config, seed=seed)
    held_out = torch.logit(torch.from_numpy(predict_reference(designs, LOGISTIC, seed=seed)), eps=1e-6)
    decision = fit_decision({LOGISTIC: held_out}, store.labels.take(rows), config.decide)
    everything = fold_rows(store, None, config.split).plots
    design = make_design(store, everything, test, np.arange(len(test)), config.model.modalities, seed)
    logits = torch.logit(torch.from_numpy(REFERENCE_MODELS[LOGISTIC](design, seed)), eps=1e-6)
    return decision.probs({LOGISTIC: logits}).numpy()


def truth_of(test: Store, train: Store) -> Lists:
    """Return the observed sets of the test plots, by the columns of the training store; other species are left out."""
    column = {species: i for i, species in enumerate(train.species_ids.tolist())}
    pairs = [
        (row, column[int(test.species_ids[species])])
        for row, species in zip(test.labels.surveys().tolist(), test.labels.indices.tolist(), strict=True)
        if int(test.species_ids[species]) in column
    ]
    surveys, species = np.array(pairs).T
    return Lists.from_pairs(surveys, species, len(test))


def score(probs: np.ndarray, truth: Lists) -> dict[str, float]:
    ranks = rank_scores(probs, truth, top_k=())
    observed = truth.to_csr(probs.shape[1]).toarray() > 0
    probs = probs.astype(np.float64).clip(1e-6, 1 - 1e-6)
    nats = np.where(observed, np.log(probs), np.log1p(-probs)).sum(axis=1).mean()
    return {"auc": ranks.auc_macro, "nats": float(nats)}


def make_page(table: pl.DataFrame, seconds: float, seed: int) -> str:
    models = table["model"].unique(maintain_order=True).to_list()
    lines = [
        "# Community data sets: every kind of member and their join",
        "",
        f"`python benchmarks/community.py --seed {seed}`: {seconds:.0f} s. {describe_machine()}.",
        "",
        "600 training and 600 test plots a split. AUC (mean over species) / log-likelihood a plot (natural logarithm), "
        "of the test plots, which take no part in training, calibration or shares. Settings are those that "
        "are chosen from the data. All models see the same covariates and coordinates.",
        "",
        "| set, test plots | " + " | ".join(models) + " |",
        "|---" * (len(models) + 1) + "|",
    ]
    for (name, split), part in table.group_by("set", "split", maintain_order=True):
        cells = [f"{row['auc']:.4f} / {row['nats']:.2f}" for row in part.to_dicts()]
        lines.append(f"| {name}, {SPLITS[int(str(split))]} | {' | '.join(cells)} |")
    means = [table.filter(pl.col("model") == model).select(pl.col("auc", "nats").mean()).row(0) for model in models]
    lines.append("| mean | " + " | ".join(f"{auc:.4f} / {nats:.2f}" for auc, nats in means) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
