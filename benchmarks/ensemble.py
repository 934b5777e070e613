"""Real plots: several runs joined by `releve ensemble`, timed, beside the reference models; and a rehearsed test.

    python benchmarks/ensemble.py --data path/to/geoplant-mini [--folder KEEP] [--draws 3]

Four runs of one store (the recipe with two seeds, a run blind to coordinates, a run in which rare species weigh more)
are joined and scored on the held-out blocks. Then, for each draw, 56 of the 0.5 degree blocks of the labelled surveys
are taken out as a test split, the same is done with the rest, and `releve score` scores the lists of the test split.
Writes ensemble.md beside this file. With ``--folder`` a stopped benchmark goes on. Without the data, which may not be
redistributed, it says so and stops.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from machine import describe_machine
from releve.decide.config import DecideConfig
from releve.evaluate.entry import rank_within_folds
from releve.evaluate.facts import bootstrap_blocks
from releve.evaluate.held_out import assessment_groups, decide_held_out
from releve.files import write_json, write_text
from releve.lists import Lists
from releve.metrics.cells import BIN_WIDTH, LIMIT, fit_line, score_cells
from releve.metrics.intervals import bootstrap_interval, percentile_interval, resample_species_f1
from releve.metrics.sets import score_sets
from releve.runs.folder import Run, open_run
from releve.runs.predict import predict_held_out

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "geoplant-mini.toml"
PARTS: dict[str, tuple[int, list[str]]] = {
    "recipe": (0, []),
    "seed": (1, []),
    "blind": (2, ["model.modalities=['covariates','survey']"]),
    "rare": (3, ["train.class_weight=0.3", "train.kinds=['network']"]),
}
"""By name of the run, its seed and what differs from the recipe."""
EVERY_REFERENCE = (
    "evaluate.references=['frequency','frequency by region','nearest places','nearest environments','logistic',"
    "'extra trees','boosted trees','MaxEnt']"
)
TEST_BLOCKS, BLOCK_DEG = 56, 0.5
NUM_RESAMPLES = 200

Table = tuple[torch.Tensor, Lists]


class Steps:
    """Runs commands once: what a stopped benchmark has finished, and how long it took, is in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "seconds.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.seconds: dict[str, float] = json.loads(self.file.read_text()) if self.file.is_file() else {}

    def run(self, name: str, *arguments: object) -> None:
        """Run a command of Relevé."""

        def command() -> None:
            subprocess.run([sys.executable, "-m", "releve.cli", *map(str, arguments)], check=True)

        self.call(name, command)

    def call(self, name: str, function: Callable[[], None]) -> None:
        """Call a function."""
        if name in self.seconds:
            return
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        started = time.monotonic()
        function()
        self.seconds[name] = round(time.monotonic() - started, 1)
        write_json(self.file, self.seconds)


def make_joint(steps: Steps, data: Path, *settings: str) -> Path:
    """Prepare a store, train the parts on it and join them; return the ensemble's folder."""
    folder, options = steps.folder, [word for text in settings for word in ("--set", text)]
    steps.run("prepare", "prepare", RECIPE, "--data", data, "--out", folder / "store", "--overwrite")
    for name, (seed, differs) in PARTS.items():
        more = [word for text in differs for word in ("--set", text)]
        where = ("--store", folder / "store", "--out", folder / name, "--seed", seed)
        steps.run(f"train {name}", "train", RECIPE, *where, *options, *more, "--overwrite")
    paths = [folder / name for name in PARTS]
    steps.run("ensemble", "ensemble", *paths, "--out", folder / "joint", "--overwrite")
    return folder / "joint"


def held_out(joint: Run, file: Path) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
    """Return held-out rows and logits by kind of member; kept in a file, for they take minutes."""
    if not file.is_file():
        torch.save(predict_held_out(joint), file)
    return torch.load(file, weights_only=False)


def select(logits: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    return {kind: values for kind, values in logits.items() if kind.startswith(part)}


def slope_interval(probs: torch.Tensor, truth: Lists, blocks: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Return the calibration slope of assessed probabilities and its interval over blocks."""
    by_block = [np.flatnonzero(blocks == block) for block in range(blocks.max() + 1)]
    cells = [score_cells(probs[rows], truth.take(rows)) for rows in by_block]
    count_BM, present_BM = np.stack([c.count_CM[0] for c in cells]), np.stack([c.present_CM[0] for c in cells])
    centre_M = -LIMIT + (np.arange(count_BM.shape[1]) + 0.5) * BIN_WIDTH
    rng, slopes = np.random.default_rng(0), []
    for _ in range(NUM_RESAMPLES):
        times = rng.multinomial(len(cells), np.full(len(cells), 1 / len(cells)))
        number, present = times @ count_BM, times @ present_BM
        used = number > 0
        slopes.append(fit_line(centre_M[used], number[used], present[used])[0])
    return score_cells(probs, truth).calibration()[0], percentile_interval(np.array(slopes))


def macro_interval(lists: Lists, truth: Lists, num_species: int, blocks: np.ndarray) -> tuple[float, float]:
    macro = resample_species_f1(lists, truth, num_species, blocks, np.random.default_rng(0))
    return percentile_interval(np.nansum(macro, axis=1) / len(np.unique(truth.indices)))


def span(ends: tuple[float, float], digits: int = 3, sign: str = "") -> str:
    return " to ".join(f"{end:{sign}.{digits}f}" for end in ends)


def tell_held_out(joint: Run, rows: np.ndarray, logits: dict[str, torch.Tensor]) -> list[str]:
    """Return the tables of the ensemble beside its parts, and of macro F1."""
    truth, groups = joint.store.labels.take(rows), assessment_groups(joint.store, rows)
    blocks, folds = bootstrap_blocks(joint.store.lon[rows], joint.store.lat[rows]), joint.store.folds[rows]
    num_species = len(joint.species_ids)
    chosen = {"**ensemble**": logits} | {name: select(logits, f"{name}/") for name in PARTS}
    chosen["recipe, networks alone"] = select(logits, "recipe/network")
    lines = [
        "| run | kinds | sF1 | 95 % | gain of the ensemble | 95 % | macro F1 | 95 % | AUC | slope | 95 % |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    whole, single, best = None, None, (0.0, "", "")
    for name, kinds in chosen.items():
        probs, lists = decide_held_out(kinds, truth, groups, DecideConfig())
        scores = score_sets(lists, truth, num_species)
        if whole is None:
            whole = scores
        single = scores
        gain = whole.per_survey_f1 - scores.per_survey_f1
        interval, paired = (
            bootstrap_interval(values, blocks, np.random.default_rng(0)) for values in (scores.per_survey_f1, gain)
        )
        slope, slopes = slope_interval(probs, truth, blocks)
        ranks = rank_within_folds(probs, truth, folds)
        gained = f"{gain.mean():+.4f} | {span(paired, 4, '+')}" if scores is not whole else "|"
        if name in PARTS:
            best = max(best, (scores.sample_f1, name, f"{gain.mean():+.4f} ({span(paired, 4, '+')})"))
        lines.append(
            f"| {name} | {len(kinds)} | {scores.sample_f1:.4f} | {span(interval)} | {gained} | {scores.macro_f1:.4f} | "
            f"{span(macro_interval(lists, truth, num_species, blocks))} | {ranks.auc_macro:.3f} | {slope:.3f} | "
            f"{span(slopes, 2)} |"
        )
    assert whole is not None and single is not None
    lines += ["", f"Best of its runs: {best[1]}, the ensemble's gain over it {best[2]}."]
    raw = Lists.from_pairs(*(side.numpy() for side in (logits["recipe/network"] > 0).nonzero(as_tuple=True)), len(rows))
    found = {
        "one network a fold, raw sigmoid over .5, as is often done": score_sets(raw, truth, num_species),
        "the same networks, calibrated, expected F1": single,
        "ensemble, expected F1": whole,
    }
    lines += [
        "",
        "Macro F1, as a multiple of that of the networks' own best lists, and of that of lists as they are often made:",
        "",
        "| lists | sF1 | macro F1 | times | of the raw sigmoid's |",
        "|---|---|---|---|---|",
    ]
    for name, scores in found.items():
        times, of_raw = (scores.macro_f1 / other.macro_f1 for other in (single, next(iter(found.values()))))
        lines.append(f"| {name} | {scores.sample_f1:.4f} | {scores.macro_f1:.4f} | {times:.2f} | {of_raw:.2f} |")
    return lines


def tell_references(joint: Run) -> list[str]:
    """Return the table of reference models, as the ensemble's own evaluation has it."""
    lines = [
        "| model | sF1 | 95 % | gain of the ensemble | 95 % | macro F1 | AUC | slope |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in json.loads((joint.path / "evaluation" / "scores.json").read_text(encoding="utf-8")):
        scores = " | | | "
        if row["sample_f1"] is not None:
            gain = "|"
            if not row["is_model"]:
                gain = f"{row['gain']:+.4f} | {span((row['gain_low'], row['gain_high']), 4, '+')}"
            scores = f"{row['sample_f1']:.4f} | {span((row['sample_f1_low'], row['sample_f1_high']))} | {gain}"
        macro, slope = (
            "" if row.get(name) is None else f"{row[name]:.4f}" for name in ("macro_f1", "calibration_slope")
        )
        name = "**ensemble**" if row["is_model"] else row["model"]
        lines.append(f"| {name} | {scores} | {macro} | {row['auc_macro']:.3f} | {slope[:5]} |")
    return lines


def write_release(data: Path, out: Path, seed: int) -> Path:
    """Write a release whose test split is some blocks of the labelled surveys; return the file of their species."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(data, out, ignore=lambda _, names: [n for n in names if n.endswith((".jpeg", ".pt"))])
    for file in out.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    rows = pl.read_csv(data / "GLC24_PA_metadata_train.csv", infer_schema_length=None)
    rows = rows.with_columns(block=(pl.col("lon") / BLOCK_DEG).floor() * 10_000 + (pl.col("lat") / BLOCK_DEG).floor())
    blocks = rows["block"].unique().sort().to_numpy()
    taken = np.random.default_rng(seed).choice(blocks, TEST_BLOCKS, replace=False)
    is_test = pl.col("block").is_in(taken.tolist())
    test = rows.filter(is_test)
    rows.filter(~is_test).drop("block").write_csv(out / "GLC24_PA_metadata_train.csv")
    test.drop("block", "speciesId").unique("surveyId", maintain_order=True).write_csv(
        out / "GLC24_PA_metadata_test.csv"
    )
    ids = test["surveyId"].unique()
    for file in (out / "EnvironmentalRasters").rglob("*train*.csv"):
        table = pl.read_csv(file, infer_schema_length=0)
        here = pl.col("surveyId").cast(pl.Float64).cast(pl.Int64).is_in(ids.to_list())
        table.filter(here).write_csv(file.with_name(file.name.replace("train", "test")))
        table.filter(~here).write_csv(file)
    solution = out.parent / "solution.csv"
    species = pl.col("speciesId").cast(pl.Int64).unique().sort().cast(pl.String).str.join(" ")
    test.group_by("surveyId").agg(species.alias("target_species_ids")).sort("surveyId").write_csv(solution)
    return solution


def rehearse(folder: Path, data: Path, seed: int) -> dict[str, Any]:
    """Return the scores of a rehearsed test, by `releve score`."""
    steps, release = Steps(folder), folder / "release"
    steps.call("release", lambda: write_release(data, release, seed) and None)
    joint = make_joint(steps, release, "evaluate.references=['frequency']", "train.num_folds=3")
    solution, found = folder / "solution.csv", {}
    for name in ("joint", "recipe"):
        lists = folder / f"{name}.csv"
        where = ("--data", release, "--out", lists, "--overwrite")
        steps.run(f"predict {name}", "predict", joint.parent / name, *where, *(
            ("--probabilities", folder / "probabilities.parquet") if name == "joint" else ()
        ))  # fmt: skip
        command = [sys.executable, "-m", "releve.cli", "score", str(lists), str(solution), "--json"]
        found[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    scores = json.loads((joint / "evaluation" / "scores.json").read_text(encoding="utf-8"))
    found["held_out"] = next(row for row in scores if row["is_model"])
    found["seconds"] = sum(steps.seconds.values())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "geoplant-mini")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"no data at {options.data}: nothing measured")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        steps = Steps(folder)
        joint = open_run(make_joint(steps, options.data, EVERY_REFERENCE))
        lines = tell(joint, steps, folder)
        if options.draws:
            lines += tell_draws([rehearse(folder / f"draw-{i}", options.data, i) for i in range(options.draws)])
    text = "\n".join(lines) + "\n"
    write_text(Path(__file__).with_suffix(".md"), text)
    print(text)


def tell(joint: Run, steps: Steps, folder: Path) -> list[str]:
    rows, logits = held_out(joint, folder / "held_out.pt")
    shares = ", ".join(f"{kind} {fitted.share:.2f}" for kind, fitted in joint.decision.kinds.items())
    minutes = {name: f"{name} {seconds / 60:.1f}" for name, seconds in steps.seconds.items()}
    return [
        "# Real plots: an ensemble of four runs",
        "",
        f"`python benchmarks/ensemble.py`; {describe_machine()}.",
        "",
        f"**{sum(steps.seconds.values()) / 60:.0f} minutes** from raw files to the scored ensemble with all reference "
        f"models ({', '.join(minutes.values())}).",
        "",
        f"Held-out 50 km blocks of geoplant-mini, {len(rows):,} surveys, 5 folds; 95 % intervals by a bootstrap over "
        f"blocks; gains are paired. Weights: {shares}. AUC is within folds. The slope is that of the calibration on "
        "assessed plots: every calibration and weight was fitted on the other folds.",
        "",
        *tell_held_out(joint, rows, logits),
        "",
        "Beside the reference models, on the same folds (MaxEnt: a sample of species, no lists):",
        "",
        *tell_references(joint),
    ]


def tell_draws(draws: list[dict[str, Any]]) -> list[str]:
    lines = [
        "",
        f"Rehearsed tests: {TEST_BLOCKS} of the {BLOCK_DEG:g} degree blocks of the labelled surveys taken out at "
        "random, the ensemble trained on the rest (three of the five folds held out in turn, members refitted on all), "
        "`releve score` on the lists. “Held out” is what the ensemble's own folds said before.",
        "",
        "| draw | test surveys | sF1 | macro F1 | held out: sF1 | macro F1 | the recipe alone: sF1 | macro F1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for number, draw in enumerate(draws):
        joint, recipe, own = draw["joint"], draw["recipe"], draw["held_out"]
        cells = [f"{row[key]:.4f}" for row in (joint, own, recipe) for key in ("sample_f1", "macro_f1")]
        lines.append(f"| {number} | {joint['num_surveys']:,} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
