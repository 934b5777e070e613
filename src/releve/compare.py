"""Several runs in one table: the same held-out plots, and paired differences with intervals."""

# N plots that all runs have held out

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from releve.errors import RunError
from releve.evaluate import BOOTSTRAP_BLOCK_KM
from releve.geo import block_ids, equal_area_crs, project
from releve.metrics import bootstrap_interval
from releve.submission import score_files


@dataclass(frozen=True)
class Scored:
    """A run that was evaluated."""

    name: str
    path: Path
    record: dict[str, Any]
    scores: dict[str, Any]
    """The run's own row of its table of scores."""
    surveys: pl.DataFrame
    """survey_id, lon, lat, f1 of its held-out plots."""

    @property
    def regime(self) -> str:
        """How it was trained."""
        return self.record["config"]["train"]["regime"]


def compare_runs(paths: list[Path], solution: Path | None = None, *, seed: int = 0) -> pl.DataFrame:
    """Return one row a run, the best first, with differences from the first run given.

    Parameters
    ----------
    paths
        Folders of evaluated runs; the first is what the others are compared with.
    solution
        Species of the test split (``surveyId,target_species_ids``): then each run's ``predictions.csv`` is scored too.
    seed
        Of the bootstrap over spatial blocks.

    Returns
    -------
    polars.DataFrame
        run, regime, records (how presence-only records are grouped), sample_f1 with its interval, macro_f1,
        auc_macro; ``gain`` in sF1 over the first run on the plots that both have held out, with the interval of a
        paired bootstrap over spatial blocks; test_sample_f1 and test_macro_f1 where a solution is given.

    Raises
    ------
    RunError
        If a folder is no run, was not evaluated, or shares no held-out plot with the first.
    """
    if not paths:
        raise RunError("no run to compare", expected="folders made by releve run or releve evaluate")
    runs = [read_scored(path) for path in paths]
    rows = [_row(run, runs[0], seed) for run in runs]
    if solution is not None:
        for run, row in zip(runs, rows, strict=True):
            row |= _test_scores(run, solution)
    return pl.DataFrame(rows, infer_schema_length=None).sort("sample_f1", descending=True)


def read_scored(path: Path) -> Scored:
    """Return a run's record and scores.

    Raises
    ------
    RunError
        If the folder is no run, or was not evaluated.
    """
    path = Path(path)
    files = {name: path / name for name in ("run.json", "evaluation/scores.json", "evaluation/surveys.csv")}
    lacking = [name for name, file in files.items() if not file.is_file()]
    if "run.json" in lacking:
        raise RunError(f"{path} is not a run: it has no run.json", expected="a folder made by releve run")
    if lacking:
        raise RunError(f"run {path} lacks {', '.join(lacking)}", action=f"Run releve evaluate {path} first")
    record = json.loads(files["run.json"].read_text(encoding="utf-8"))
    title = record["config"]["title"] or "model"
    table = json.loads(files["evaluation/scores.json"].read_text(encoding="utf-8"))
    scores = next(row for row in table if row["model"] == title)
    surveys = pl.read_csv(files["evaluation/surveys.csv"])
    return Scored(path.resolve().name, path, record, scores, surveys)


def _row(run: Scored, first: Scored, seed: int) -> dict[str, Any]:
    """Return one line of the table."""
    config = run.record["config"]
    both = first.surveys.select("survey_id", "lon", "lat", "f1").join(
        run.surveys.select("survey_id", ours="f1"), on="survey_id", how="inner"
    )
    if len(both) == 0:
        raise RunError(
            f"{run.path} and {first.path} have no held-out plot in common",
            expected="runs on the same release with the same split section and seed",
        )
    gain = (both["ours"] - both["f1"]).to_numpy()
    lon, lat = both["lon"].to_numpy(), both["lat"].to_numpy()
    blocks = block_ids(project(lon, lat, equal_area_crs(lon, lat)), BOOTSTRAP_BLOCK_KM)
    low, high = bootstrap_interval(gain, blocks, np.random.default_rng(seed))
    return {
        "run": run.name,
        "title": config["title"],
        "regime": run.regime,
        "records": config["pseudoplots"]["method"] if config["data"]["records"] and run.regime != "pa" else "",
        "sample_f1": run.scores["sample_f1"],
        "sample_f1_low": run.scores["sample_f1_low"],
        "sample_f1_high": run.scores["sample_f1_high"],
        "macro_f1": run.scores["macro_f1"],
        "auc_macro": run.scores["auc_macro"],
        "gain": float(gain.mean()),
        "gain_low": low,
        "gain_high": high,
        "num_shared": len(both),
    }


def _test_scores(run: Scored, solution: Path) -> dict[str, float]:
    """Return the scores of a run's lists of the test split."""
    file = run.path / "predictions.csv"
    if not file.is_file():
        raise RunError(f"run {run.path} has no predictions.csv", action="Run releve predict, or leave out --solution")
    scores = score_files(file, solution)
    return {"test_sample_f1": scores.sample_f1, "test_macro_f1": float(scores.summary()["macro_f1"])}
