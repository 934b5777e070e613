"""Several runs in one table: scored on the plots that all have held out, with paired differences and intervals."""

# N plots that all runs have held out

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from releve.config import Config, make_config
from releve.errors import RunError
from releve.evaluate.facts import bootstrap_blocks
from releve.evaluate.submission import score_files
from releve.ingest.rows import VISIT
from releve.metrics.intervals import bootstrap_interval


@dataclass(frozen=True)
class Scored:
    """A run that was evaluated."""

    name: str
    path: Path
    config: Config
    scores: dict[str, Any]
    """The run's own row of its table of scores."""
    surveys: pl.DataFrame
    """survey_id, lon, lat, f1 of its held-out plots."""


def compare_runs(paths: list[Path], solution: Path | None = None, *, seed: int = 0) -> pl.DataFrame:
    """Return one row a run, the best first, with differences from the first run given, the reference.

    Parameters
    ----------
    paths
        Folders of evaluated runs; the first is the reference.
    solution
        Species of the test split (``surveyId,target_species_ids``): then each run's ``predictions.csv`` is scored too.
    seed
        Of the bootstrap over spatial blocks.

    Returns
    -------
    polars.DataFrame
        run, regime, records (how presence-only records are grouped), is_reference; ``sample_f1`` on the ``num_plots``
        that all runs have held out, with the interval of a bootstrap over spatial blocks; ``gain`` over the reference
        with the interval of the paired bootstrap; ``macro_f1`` and ``auc_macro`` of each run's own held-out plots;
        test_sample_f1 and test_macro_f1 where a solution is given.

    Raises
    ------
    RunError
        If a folder is no run or was not evaluated, a survey id is repeated in it, or the runs share no held-out plot.
    """
    if not paths:
        raise RunError("no run to compare", expected="folders made by releve run or releve evaluate")
    runs = [read_scored(path) for path in paths]
    keys = [name for name in VISIT if all(name in run.surveys.columns for run in runs)]
    shared = runs[0].surveys.select(keys)
    for i, run in enumerate(runs):
        shared = shared.join(run.surveys.select(*keys, pl.col("f1").alias(f"f1_{i}")), on=keys, nulls_equal=True)
    if len(shared) == 0:
        raise RunError(
            f"{', '.join(str(run.path) for run in runs)} have no held-out plot in common",
            expected="runs on the same release with the same split section and seed",
        )
    lon, lat = shared["lon"].to_numpy(), shared["lat"].to_numpy()
    blocks = bootstrap_blocks(lon, lat, min(run.config.split.block_size_km for run in runs))
    rows = []
    for i, run in enumerate(runs):
        f1 = shared[f"f1_{i}"].to_numpy()
        gain = f1 - shared["f1_0"].to_numpy()
        intervals = [bootstrap_interval(values, blocks, np.random.default_rng(seed)) for values in (f1, gain)]
        row = describe_run(run) | {"is_reference": i == 0, "num_plots": len(shared)}
        for name, values, (low, high) in zip(("sample_f1", "gain"), (f1, gain), intervals, strict=True):
            row |= {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}
        row |= {name: run.scores[name] for name in ("macro_f1", "auc_macro")}
        if solution is not None:
            row |= score_test(run, solution)
        rows.append(row)
    table = pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.col(pl.Float64).fill_nan(None))
    return table.sort("sample_f1", descending=True, nulls_last=True, maintain_order=True)


def read_scored(path: Path) -> Scored:
    """Return a run's recipe and scores.

    Raises
    ------
    RunError
        If the folder is no run, was not evaluated, does not say which scores are its own, or was evaluated on rows
        that share a survey id.
    """
    path = Path(path)
    files = {name: path / name for name in ("run.json", "evaluation/scores.json", "evaluation/surveys.csv")}
    lacking = [name for name, file in files.items() if not file.is_file()]
    if "run.json" in lacking:
        raise RunError(f"{path} is not a run: it has no run.json", expected="a folder made by releve run")
    if lacking:
        raise RunError(f"run {path} lacks {', '.join(lacking)}", action=f"Run releve evaluate {path} first")
    provenance = json.loads(files["run.json"].read_text(encoding="utf-8"))
    config = make_config(provenance["config"], origin=str(files["run.json"]))
    table = json.loads(files["evaluation/scores.json"].read_text(encoding="utf-8"))
    own = [row for row in table if row.get("is_model")]
    if len(own) != 1:
        raise RunError(
            f"{files['evaluation/scores.json']} has {len(own)} rows of the run itself",
            expected="one, marked is_model",
            action=f"Run releve evaluate {path} again",
        )
    surveys = pl.read_csv(files["evaluation/surveys.csv"], schema_overrides={"survey_id": pl.String}, glob=False)
    if surveys.select(name for name in VISIT if name in surveys.columns).is_duplicated().any():
        raise RunError(
            f"run {path} was scored on rows that share survey id, place and date: they cannot be paired with another's",
            expected="a run that was scored on plots",
        )
    return Scored(path.resolve().name, path, config, own[0], surveys)


def describe_run(run: Scored) -> dict[str, Any]:
    """Return what a run is."""
    uses_records = run.config.data.records is not None and run.config.train.regime != "pa"
    return {
        "run": run.name,
        "title": run.config.title,
        "regime": run.config.train.regime,
        "records": run.config.pseudoplots.method if uses_records else "",
    }


def score_test(run: Scored, solution: Path) -> dict[str, float]:
    """Return the scores of a run's lists of the test split.

    Raises
    ------
    RunError
        If the run has none.
    """
    file = run.path / "predictions.csv"
    if not file.is_file():
        raise RunError(f"run {run.path} has no predictions.csv", action="Run releve predict, or leave out --solution")
    scores = score_files(file, solution)
    return {"test_sample_f1": scores.sample_f1, "test_macro_f1": float(scores.summary()["macro_f1"])}
