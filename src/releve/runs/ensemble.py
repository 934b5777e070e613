"""Several runs as one: calibrated on their own, weighted by what held-out plots say, predicting together."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from releve.config import Config, make_config
from releve.decide.companions import fit_companions, write_companions
from releve.decide.decision import fit_decision
from releve.errors import RunError
from releve.files import file_sha256, write_text
from releve.geo import block_ids
from releve.runs.claim import refuse_folder, remove_run
from releve.runs.folder import COMPANIONS_FILE, Run, open_run
from releve.runs.predict import predict_held_out
from releve.runs.provenance import write_provenance


def make_ensemble(paths: list[Path], out: Path, *, seed: int = 0, overwrite: bool = False) -> Run:
    """Combine trained runs into an ensemble and return it; it is evaluated, compared and predicted with like a run.

    Every kind of member of every run (networks, forests) is calibrated on the held-out plots, then weighted: shares of
    the mixture that is likeliest there, never negative, drawn towards equal ones.

    Parameters
    ----------
    paths
        Folders of two or more runs on one release: other seeds, other regimes, other settings, such as one that does
        not see coordinates. Their folders' names tell them apart.
    out
        Folder of the ensemble; it refers to the runs and does not copy them.
    seed
        Of intervals when it is evaluated.
    overwrite
        Replace an earlier ensemble.

    Raises
    ------
    RunError
        If there are fewer than two runs, names repeat, the runs know different species, or the surveys that they have
        held out are not the same ones.
    """
    started = time.monotonic()
    refuse_folder(out, resume=False, overwrite=overwrite)
    runs = [open_run(path) for path in paths]
    check_alike(runs)
    if (out / "run.json").is_file():
        remove_run(out)
    out.mkdir(parents=True, exist_ok=True)
    unfitted = Run(out, joint_config(runs), seed, (), tuple(runs))
    rows, logits = predict_held_out(unfitted)
    truth = unfitted.store.labels.take(rows)
    decision = fit_decision(logits, truth, unfitted.config.decide)
    store, size_km = unfitted.store, unfitted.config.split.block_size_km
    blocks = block_ids(store.lon[rows], store.lat[rows], size_km)
    companions = fit_companions(decision.probs(logits), truth, blocks, seed=seed)
    known = {f"{run.path.name}/{kind}": kinds.stretch for run in runs for kind, kinds in run.decision.kinds.items()}
    decision = decision.stretched(known)
    facts = {
        "config": unfitted.config.model_dump(mode="json"),
        "seed": seed,
        "members": [],
        "runs": [os.path.relpath(run.path.resolve(), out.resolve()) for run in runs],
        "inputs": {"runs": {run.path.name: file_sha256(run.path / "decision.json") for run in runs}},
    }
    write_provenance(out, "ensemble", started, **facts)
    if companions is not None:
        write_companions(out / COMPANIONS_FILE, companions)
    write_text(out / "decision.json", decision.model_dump_json(indent=1) + "\n")
    return open_run(out)


def check_alike(runs: list[Run]) -> None:
    """Refuse runs that cannot be combined; see :func:`make_ensemble`."""
    names = [run.path.name for run in runs]
    if len(runs) < 2 or any(run.parts for run in runs):
        raise RunError(f"an ensemble of {names}", expected="two or more runs, none of them an ensemble itself")
    if len(set(names)) < len(names):
        raise RunError(f"runs {names} share a name", expected="folders with different names")
    first = runs[0]
    for run in runs[1:]:
        if not np.array_equal(run.species, first.species):
            ours, theirs = set(first.species.tolist()), set(run.species.tolist())
            raise RunError(
                f"{names[0]} knows {len(ours):,} species and {run.path.name} {len(theirs):,}, "
                f"{len(ours & theirs):,} of them the same",
                expected="runs with one vocabulary",
                action="Prepare them with the same data section; for train.regime = 'pa' beside records, give its "
                "recipe data.records too",
            )


def joint_config(runs: list[Run]) -> Config:
    """Return the first run's recipe with the modalities of all."""
    content = runs[0].config.model_dump(mode="json")
    content["title"] = "ensemble of " + ", ".join(run.path.name for run in runs)
    for section in ("data", "model"):
        used = [name for run in runs for name in getattr(run.config, section).modalities]
        content[section]["modalities"] = list(dict.fromkeys(used))
    if len(content["model"]["modalities"]) > 1:
        content["model"]["fusion"] = "concat"
    return make_config(content, origin="ensemble")
