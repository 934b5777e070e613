"""Write what an evaluated run leaves on disk, as far as ``releve compare`` reads it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl


def write_run(folder: Path, f1: np.ndarray, *, regime: str = "pa", first_id: int = 0, title: str = "model x") -> Path:
    (folder / "evaluation").mkdir(parents=True)
    config = {
        "title": title,
        "train": {"regime": regime},
        "data": {"records": None if regime == "pa" else "po"},
    }
    (folder / "run.json").write_text(json.dumps({"config": config}))
    scores = {"sample_f1": f1.mean(), "sample_f1_low": 0.1, "sample_f1_high": 0.9, "macro_f1": 0.1, "auc_macro": 0.7}
    table = [
        {"model": "frequency", "is_model": False, **dict.fromkeys(scores, 0.99)},
        {"model": title, "is_model": True, **scores},
    ]
    (folder / "evaluation/scores.json").write_text(json.dumps(table))
    ids = first_id + np.arange(len(f1))
    surveys = {"survey_id": ids, "lon": ids // 4 * 1.5, "lat": np.full(len(f1), 50.0), "f1": f1}
    pl.DataFrame(surveys).write_csv(folder / "evaluation/surveys.csv")
    return folder
