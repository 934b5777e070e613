"""Time the metrics beside scikit-learn's and measure their memory at full size; writes metrics.md beside it.

    python benchmarks/metrics.py [--plots 100000 --species 10000] [--folder /tmp]

Scores are probabilities of synthetic plots (log-odds normal around -9, standard deviation 2.2, some 13 species a
plot), the truth is drawn from them, lists are the 13 best. Both sides work on the same table in one run: first at
sizes that scikit-learn finishes, then Relevé alone on a memory-mapped file of 100,000 plots by 10,000 species, in a
process of its own whose highest resident memory is read at the end.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sklearn.metrics
from sklearn.linear_model import LogisticRegression

from machine import describe_machine
from releve.files import write_text
from releve.lists import Lists
from releve.metrics.cells import score_cells
from releve.metrics.ranks import rank_scores
from releve.metrics.sets import score_sets

SIZES = ((5_000, 1_000), (10_000, 2_000), (20_000, 4_000))
LONGEST_S = 60  # the next size has four times as many cells: seven minutes or more of scikit-learn
LISTED = 13


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plots", type=int, default=100_000)
    parser.add_argument("--species", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--measure", type=Path, help="measure one table, for the process that does only this")
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.plots, options.species)
        return
    rows = []
    for plots, species in SIZES:
        row = compare(options.folder, plots, species)
        rows.append(row)
        print(json.dumps(row), flush=True)
        if sum(row["scikit-learn"].values()) > LONGEST_S:
            break
    file = make_table(options.folder, options.plots, options.species)
    try:
        arguments = ["--measure", str(file), "--plots", str(options.plots), "--species", str(options.species)]
        done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    finally:
        for part in table_files(file):
            part.unlink()
    print(done.stdout)
    write_text(Path(__file__).with_suffix(".md"), describe(rows, json.loads(done.stdout)))


def make_table(folder: Path, num_plots: int, num_species: int) -> Path:
    """Write probabilities, the observed sets and the lists of synthetic plots, block by block."""
    file = folder / f"probs-{num_plots}-{num_species}.f32"
    rng = np.random.default_rng(0)
    truth, lists = [], []
    with file.open("wb") as out:
        for first in range(0, num_plots, 1000):
            size = min(1000, num_plots - first)
            probs = 1 / (1 + np.exp(9 - 2.2 * rng.standard_normal((size, num_species), dtype=np.float32)))
            out.write(probs.astype(np.float32).tobytes())
            rows, species = np.nonzero(rng.random(probs.shape, dtype=np.float32) < probs)
            truth.append(np.stack([rows + first, species]))
            best = np.argpartition(-probs, LISTED, axis=1)[:, :LISTED]
            lists.append(np.stack([np.repeat(np.arange(size) + first, LISTED), best.ravel()]))
    np.savez(file.with_suffix(".npz"), truth=np.concatenate(truth, axis=1), lists=np.concatenate(lists, axis=1))
    return file


def table_files(file: Path) -> tuple[Path, Path]:
    return file, file.with_suffix(".npz")


def open_table(file: Path, num_plots: int, num_species: int) -> tuple[np.ndarray, Lists, Lists]:
    pairs = np.load(file.with_suffix(".npz"))
    probs = np.memmap(file, np.float32, "r", shape=(num_plots, num_species))
    truth, lists = (Lists.from_pairs(*pairs[name], num_plots) for name in ("truth", "lists"))
    return probs, truth, lists


def timed(function: Callable[[], dict[str, float]]) -> tuple[dict[str, float], float]:
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def ours_sets(lists: Lists, truth: Lists, num_species: int) -> dict[str, float]:
    scores = score_sets(lists, truth, num_species)
    return {"sF1": scores.sample_f1, "macro F1": scores.macro_f1}


def ours_ranks(probs: np.ndarray, truth: Lists) -> dict[str, float]:
    ranks = rank_scores(probs, truth, top_k=())
    return {"AUC": ranks.auc_macro, "AP": ranks.ap_macro}


def ours_cells(probs: np.ndarray, truth: Lists) -> dict[str, float]:
    cells = score_cells(probs, truth)
    return {"Brier": cells.brier(), "ECE": cells.ece(), "slope": cells.calibration()[0]}


def compare(folder: Path, num_plots: int, num_species: int) -> dict:
    file = make_table(folder, num_plots, num_species)
    probs, truth, lists = open_table(file, num_plots, num_species)
    probs = np.array(probs)
    for part in table_files(file):
        part.unlink()
    ours, theirs, values = {}, {}, {}
    jobs = {
        "sF1, macro F1": (
            lambda: ours_sets(lists, truth, num_species),
            lambda: sklearn_sets(lists, truth, num_species),
        ),
        "AUC, AP": (lambda: ours_ranks(probs, truth), lambda: sklearn_ranks(probs, truth)),
        "Brier, ECE, slope": (lambda: ours_cells(probs, truth), lambda: sklearn_cells(probs, truth)),
    }
    for name, (first, second) in jobs.items():
        mine, ours[name] = timed(first)
        reference, theirs[name] = timed(second)
        for score, value in mine.items():
            values[score] = (value, reference[score])
    return {"plots": num_plots, "species": num_species, "releve": ours, "scikit-learn": theirs, "values": values}


def sklearn_sets(lists: Lists, truth: Lists, num_species: int) -> dict[str, float]:
    observed, listed = truth.to_csr(num_species), lists.to_csr(num_species)  # its sparse form, the faster one
    present = np.flatnonzero(np.asarray(observed.sum(axis=0)).ravel())
    return {
        "sF1": sklearn.metrics.f1_score(observed, listed, average="samples", zero_division=0),
        "macro F1": sklearn.metrics.f1_score(observed, listed, labels=present, average="macro", zero_division=0),
    }


def sklearn_ranks(probs: np.ndarray, truth: Lists) -> dict[str, float]:
    observed = truth.to_csr(probs.shape[1]).toarray()
    present = np.flatnonzero(observed.any(axis=0))
    auc = [sklearn.metrics.roc_auc_score(observed[:, s], probs[:, s]) for s in present]
    ap = [sklearn.metrics.average_precision_score(observed[:, s], probs[:, s]) for s in present]
    return {"AUC": float(np.mean(auc)), "AP": float(np.mean(ap))}


def sklearn_cells(probs: np.ndarray, truth: Lists) -> dict[str, float]:
    observed = truth.to_csr(probs.shape[1]).toarray()
    brier = [sklearn.metrics.brier_score_loss(observed[:, s], probs[:, s]) for s in range(probs.shape[1])]
    z = np.log(probs / (1 - probs))
    bins = np.clip((z + 10).astype(int), 0, 19).ravel()
    counts = np.bincount(bins, minlength=20)
    gaps = np.abs(np.bincount(bins, probs.ravel(), 20) - np.bincount(bins, observed.ravel(), 20))
    model = LogisticRegression(C=1e9, solver="newton-cholesky").fit(z.reshape(-1, 1), observed.ravel())
    return {"Brier": float(np.mean(brier)), "ECE": float(gaps.sum() / counts.sum()), "slope": float(model.coef_.item())}


def measure(file: Path, num_plots: int, num_species: int) -> None:
    """Print times, values and the highest resident memory of this process."""
    probs, truth, lists = open_table(file, num_plots, num_species)
    seconds, values = {}, {}
    for name, function in (
        ("sF1, macro F1", lambda: ours_sets(lists, truth, num_species)),
        ("AUC, AP", lambda: ours_ranks(probs, truth)),
        ("Brier, ECE, slope", lambda: ours_cells(probs, truth)),
    ):
        found, seconds[name] = timed(function)
        values |= found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(
        json.dumps({"plots": num_plots, "species": num_species, "releve": seconds, "values": values, "peak_gb": peak})
    )


def describe(rows: list[dict], full: dict) -> str:
    lines = [
        "# Metrics: time beside scikit-learn, memory at full size",
        "",
        "    python benchmarks/metrics.py",
        "",
        f"{describe_machine()}.",
        "",
        "Times in seconds. Relevé uses two threads; scikit-learn is called species by species,",
        "as its multi-label form is no faster, and on sparse tables where it takes them. AUC and AP of Relevé hold the",
        "Boyce index too. ECE and slope have no one call in scikit-learn: `calibration_curve`, `numpy.bincount` and an",
        "unpenalised `LogisticRegression` (newton-cholesky) over all cells.",
        "",
        "| plots x species | scores | Relevé | scikit-learn | times faster |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        size = f"{row['plots']:,} x {row['species']:,}"
        for name, mine in row["releve"].items():
            other = row["scikit-learn"][name]
            lines.append(f"| {size} | {name} | {mine:.2f} | {other:.1f} | {other / mine:.0f} |")
        mine, other = sum(row["releve"].values()), sum(row["scikit-learn"].values())
        lines.append(f"| {size} | **all** | **{mine:.2f}** | **{other:.1f}** | **{other / mine:.0f}** |")
    for name, mine in full["releve"].items():
        lines.append(f"| {full['plots']:,} x {full['species']:,} | {name} | {mine:.1f} | | |")
    lines += [
        "",
        f"At {full['plots']:,} x {full['species']:,} the probabilities are a file of "
        f"{4 * full['plots'] * full['species'] / 1e9:.1f} GB that is read as a memory map; the highest resident memory",
        f"of the process (`ru_maxrss`) was **{full['peak_gb']:.2f} GiB**.",
        "",
        f"Values at {rows[-1]['plots']:,} x {rows[-1]['species']:,}, Relevé / scikit-learn:",
        "",
        "| score | Relevé | scikit-learn |",
        "|---|---:|---:|",
    ]
    lines += [f"| {name} | {mine:.6f} | {other:.6f} |" for name, (mine, other) in rows[-1]["values"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
