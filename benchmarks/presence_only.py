"""What presence-only records add, in virtual worlds whose truth is known: five worlds, paired differences, intervals.

    python benchmarks/presence_only.py [--folder KEEP] [--worlds 5]

Each world is simulated anew; every model is trained by the pipeline, validated on spatial blocks of plots, and scored
on the test plots, a quarter of which lie in countries without training plots. Writes presence_only.md and
presence_only.png beside this file. With ``--folder`` a stopped benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import torch
from scipy import stats

from machine import describe_machine
from releve import pipeline
from releve.config import make_config
from releve.demo import read_truth
from releve.ingest.release import open_release
from releve.metrics.ranks import rank_scores
from releve.metrics.sets import score_sets
from releve.progress import quiet_progress
from releve.runs.predict import predict_probs
from releve.simulate.config import SimulateConfig
from releve.simulate.write import simulate_release
from releve.store.build import build_store
from releve.store.chunks import num_cores
from releve.store.contents import read_contents

FIRST_WORLD = 10  # worlds 0 and 1 were looked at while the settings were chosen
WORLD = {
    "num_plots": 1500,
    "num_test_plots": 1500,
    "num_records": 60_000,
    "num_species": 400,
    "modalities": ("covariates",),
}
BASE: dict[str, dict[str, Any]] = {
    "data": {"modalities": ["covariates"], "records": "po"},
    "split": {"num_folds": 5},
    "model": {
        "modalities": ["covariates", "survey", "location"],
        "embedding_dim": 128,
        "hidden_dim": 256,
        "dropout": 0.3,
    },
    "pseudoplots": {"method": "grid", "size_m": 1000},
    "train": {"batch_size": 64, "epochs": 30, "patience": 6},
}
PO = {"regime": "po", "batch_size": 128, "epochs": 20}
ALONE = {"observation_head": False}
MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "po, single records": {"train": PO, "records": ALONE | {"loss": "bce"}, "pseudoplots": {"method": "single"}},
    "po, pseudo-plots, plain silence": {"train": PO, "records": ALONE | {"loss": "bce"}},
    "po, pseudo-plots": {"train": PO, "records": ALONE},
    "po, pseudo-plots, random background": {"train": PO, "records": ALONE | {"background": "random"}},
    "pa": {"data": {"records": None}, "train": {"regime": "pa"}},
    "presence": {"train": {"regime": "presence"}},
    "presence, random background": {"train": {"regime": "presence"}, "records": {"background": "random"}},
    "presence, plain silence": {"train": {"regime": "presence"}, "records": {"loss": "bce"}},
    "presence, no heads": {"train": {"regime": "presence"}, "records": ALONE},
    "classes": {
        "train": {"regime": "classes", "epochs": 10, "learning_rate": 5e-4},
        "records": {"pretrain_epochs": 20},
    },
}
CLAIMS = [
    ("Grouping records, same loss (po)", "po, pseudo-plots, plain silence", "po, single records"),
    ("Grouping records, with trusted silence (po)", "po, pseudo-plots", "po, single records"),
    ("Trusted silence (po)", "po, pseudo-plots", "po, pseudo-plots, plain silence"),
    ("Target-group background (po)", "po, pseudo-plots", "po, pseudo-plots, random background"),
    ("Records beside plots (presence)", "presence", "pa"),
    ("Target-group background (presence)", "presence", "presence, random background"),
    ("Trusted silence (presence)", "presence", "presence, plain silence"),
    ("Heads of the sources (presence)", "presence", "presence, no heads"),
    ("Pre-training on records (classes)", "classes", "pa"),
    ("Classes against presence", "classes", "presence"),
]
STRATA = ("seen", "block", "country")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--worlds", type=int, default=5)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        worlds = range(FIRST_WORLD, FIRST_WORLD + options.worlds)
        with ProcessPoolExecutor(num_cores(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            rows = [row for part in pool.map(score_world, [folder] * len(worlds), worlds) for row in part]
    table = pl.DataFrame(rows)
    here = Path(__file__)
    here.with_suffix(".md").write_text(render(table, time.monotonic() - started), encoding="utf-8")
    draw(table, here.with_suffix(".png"))
    print(here.with_suffix(".md").read_text(encoding="utf-8"))


def score_world(folder: Path, seed: int) -> list[dict[str, Any]]:
    """Return one row a model of one world."""
    release = folder / f"world-{seed}"
    if not (release / "truth" / "truth.json").is_file():
        simulate_release(SimulateConfig(seed=seed, **WORLD), release)
    facts = json.loads((release / "truth" / "truth.json").read_text(encoding="utf-8"))
    rows = []
    for name, change in MODELS.items():
        settings = hashlib.sha256(json.dumps([BASE, WORLD, change], sort_keys=True).encode()).hexdigest()[:8]
        file = folder / f"scores-{seed}-{name.replace(' ', '-').replace(',', '')}-{settings}.json"
        if not file.is_file():
            scores = score_model(folder, release, seed, change)
            file.write_text(json.dumps(scores))
            print(seed, name, scores, flush=True)
        rows.append({"world": seed, "model": name} | json.loads(file.read_text()))
    oracle = {"sf1": facts["oracle_sf1"]} | {s: facts["oracle_sf1_by_stratum"][s] for s in STRATA}
    return [*rows, {"world": seed, "model": "oracle"} | oracle]


def score_model(folder: Path, release: Path, seed: int, change: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the scores of one model on the test plots of one world."""
    content = {name: BASE.get(name, {}) | change.get(name, {}) for name in BASE.keys() | change.keys()}
    config = make_config(content, origin="benchmark")
    kind = config.pseudoplots.method if config.data.records else "plots"
    with quiet_progress():
        store = pipeline.prepare(config, release, folder / f"store-{seed}-{kind}", seed=0)
        settings = config.data.model_copy(update={"splits": ("test",), "records": None})
        test = build_store(read_contents(open_release(release), settings), None, folder / f"store-{seed}-test")
        out = folder / f"run-{seed}"
        run = pipeline.train(config, store, out, seed=seed, overwrite=out.exists())
        probs = torch.cat([block.cpu() for _, block in predict_probs(run, test)])
    truth = read_truth(release, test, store)
    sets = score_sets(run.decision.lists(probs), truth, len(store.species_ids))
    latents = pl.read_parquet(release / "truth" / "latents_test.parquet").rename({"surveyId": "survey_id"})
    strata = test.surveys.join(latents, on="survey_id", how="left", maintain_order="left")["stratum"].to_numpy()
    by_stratum = {name: float(sets.per_survey_f1[strata == name].mean()) for name in STRATA}
    auc = rank_scores(probs, truth).auc_macro
    return {"sf1": sets.sample_f1, "macro_f1": float(sets.summary()["macro_f1"]), "auc": auc} | by_stratum


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return mean and the 95 % t interval over worlds."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def render(table: pl.DataFrame, seconds: float) -> str:
    """Return the page."""
    worlds = table["world"].n_unique()
    lines = [
        "# What presence-only records add, in virtual worlds",
        "",
        f"`python benchmarks/presence_only.py`: {worlds} worlds of {WORLD['num_plots']:,} training plots, "
        f"{WORLD['num_records']:,} presence-only records biased by roads, towns, taste and publishers, "
        f"{WORLD['num_species']} species, covariates only (what the covariates do not show is out of reach, so the "
        f"oracle, who knows it, is far above). {WORLD['num_test_plots']:,} test plots: half in places like the "
        "training plots', a quarter on 0.5 degree blocks without training plots, a quarter in countries without. One "
        f"network a model. The worlds were not looked at while settings were chosen. "
        f"{seconds / 60:.0f} minutes. {describe_machine()}.",
        "",
        "Mean sF1 on the test plots (calibrated expected-F1 lists):",
        "",
        "| model | all | like training | new blocks | new countries | macro F1 | AUC |",
        "|---|---|---|---|---|---|---|",
    ]
    means = table.group_by("model", maintain_order=True).mean()
    for row in means.iter_rows(named=True):
        shown = [row[name] for name in ("sf1", *STRATA, "macro_f1", "auc")]
        lines.append(f"| {row['model']} | {' | '.join('' if x is None else f'{x:.4f}' for x in shown)} |")
    lines += [
        "",
        "Paired differences over worlds, with 95 % t intervals:",
        "",
        "| gain of | sF1, all test plots | in countries without plots | AUC |",
        "|---|---|---|---|",
    ]
    for title, better, worse in CLAIMS:
        cells = []
        for name in ("sf1", "country", "auc"):
            ours, theirs = (table.filter(pl.col("model") == m).sort("world")[name].to_numpy() for m in (better, worse))
            mean, low, high = interval(ours - theirs)
            cells.append(f"{mean:+.4f} ({low:+.4f} to {high:+.4f})")
        lines.append(f"| {title}: {better} over {worse} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "![sF1 of each model](presence_only.png)", ""])


def draw(table: pl.DataFrame, path: Path) -> None:
    """Draw one dot a world and model, all test plots beside new countries."""
    names = [*MODELS, "oracle"]
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True, layout="constrained")
    for axis, (column, title) in zip(
        axes, (("sf1", "all test plots"), ("country", "countries without plots")), strict=True
    ):
        for y, name in enumerate(names):
            values = table.filter(pl.col("model") == name)[column].to_numpy()
            axis.plot(values, np.full(len(values), y), "o", color="#2a7f62", alpha=0.45, markersize=5, linewidth=0)
            axis.plot([values.mean()], [y], "|", color="black", markersize=14)
        axis.set(title=title, xlabel="sF1", yticks=range(len(names)), yticklabels=names)
        axis.grid(axis="x", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=140)
    plt.close(figure)


if __name__ == "__main__":
    main()
