"""Time expected-F1 lists and the metrics beside the straightforward alternatives; writes decide.md beside it.

    python benchmarks/decide.py

All alternatives run in this one process on the same synthetic plots: logits are normal around -9 (standard
deviation 2.2), which gives about 13 species a plot, and the truth is drawn from the probabilities.
"""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.metrics
import torch

from releve.decide import expected_f1_sets, expected_f1_value, fit_calibration, fit_threshold, threshold_sets, to_logits
from releve.files import write_text
from releve.metrics import Lists, rank_scores, score_sets

NUM_SURVEYS, NUM_SPECIES = 10_000, 10_000


def timed(function: Callable[[], Any], repeats: int = 3) -> tuple[Any, float]:
    """Return the result and the best wall time in seconds."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - start)
    return result, best


def make_plots() -> tuple[np.ndarray, Lists]:
    generator = torch.Generator().manual_seed(0)
    probs = torch.sigmoid(torch.randn(NUM_SURVEYS, NUM_SPECIES, generator=generator) * 2.2 - 9)
    rows, species = (torch.rand(probs.shape, generator=generator) < probs).nonzero(as_tuple=True)
    return probs.numpy(), Lists.from_pairs(rows.numpy(), species.numpy(), NUM_SURVEYS)


def dynamic_programme(probs_S: np.ndarray, longest: int) -> int:
    """Return the best list length by the textbook double sum; the tail's distribution grows species by species."""
    ordered = np.sort(probs_S.astype(np.float64))[::-1]
    tails = [np.ones(1)]  # the number of species beyond the k best; more than 200 is left out
    for p in ordered[::-1][: len(ordered) - 1]:
        tails.append(np.convolve(tails[-1], [1 - p, p])[:200])
    head, values = np.ones(1), []
    for k in range(1, longest + 1):
        head = np.convolve(head, [1 - ordered[k - 1], ordered[k - 1]])
        tail = tails[len(ordered) - k]
        a, b = np.arange(k + 1)[:, None], np.arange(len(tail))
        values.append(head @ (2 * a / (k + a + b)) @ tail)
    return int(np.argmax(values)) + 1


def plug_in(probs_S: np.ndarray) -> int:
    """Return the length that maximises the ratio of expectations, 2 m_k / (k + m), instead of the expected ratio."""
    ordered = np.sort(probs_S.astype(np.float64))[::-1]
    return int(np.argmax(2 * ordered.cumsum() / (np.arange(1, len(ordered) + 1) + ordered.sum()))) + 1


def main() -> None:
    probs, truth = make_plots()
    lists, whole = timed(lambda: expected_f1_sets(probs))
    sample = range(10)
    by_programme, slow = timed(lambda: [dynamic_programme(probs[i], 100) for i in sample], repeats=1)
    assert by_programme == lists.lengths()[: len(sample)].tolist()
    sample = range(200)
    by_plug_in, plain = timed(lambda: [plug_in(probs[i]) for i in sample])
    lost = np.mean(
        [expected_f1_value(probs[i], lists.row(i)) - expected_f1_value(probs[i], by_plug_in[i]) for i in sample]
    )
    threshold, fit_s = timed(lambda: fit_threshold(probs, truth), repeats=1)
    flat, flat_s = timed(lambda: threshold_sets(probs, threshold))
    sf1 = [score_sets(x, truth, NUM_SPECIES).sample_f1 for x in (lists, flat)]
    logits = to_logits(probs)
    calibration, calibrate_s = timed(lambda: fit_calibration(logits, truth), repeats=1)

    scores, sets_s = timed(lambda: score_sets(lists, truth, NUM_SPECIES))
    few = np.arange(1000)
    dense = [x.take(few).to_csr(NUM_SPECIES).toarray() for x in (truth, lists)]
    reference, reference_s = timed(lambda: [sklearn_set_scores(*dense)], repeats=1)
    ours, ours_s = timed(lambda: score_sets(lists.take(few), truth.take(few), NUM_SPECIES))
    assert np.allclose(reference, [[ours.sample_f1, ours.micro_f1, ours.precision, ours.recall, ours.jaccard]])
    ranks, ranks_s = timed(lambda: rank_scores(probs, truth), repeats=1)
    scored = np.flatnonzero(np.isfinite(ranks.auc_S))[:300]
    truth_columns = truth.to_csr(NUM_SPECIES)[:, scored].toarray()
    area, area_s = timed(lambda: sklearn_rank_scores(truth_columns, probs[:, scored]), repeats=1)
    assert np.allclose(area, [ranks.auc_S[scored], ranks.ap_S[scored]])

    rows = [
        ("expected-F1 lists, exact", "10,000 x 10,000", whole, ""),
        ("the same by the textbook dynamic programme", f"{len(by_programme)} x 10,000", slow,
         f"same lists; {slow / len(by_programme) * NUM_SURVEYS / whole:,.0f} times slower a plot"),
        ("plug-in rule (ratio of expectations), one plot at a time", "200 x 10,000", plain,
         f"expected F1 lower by {lost:.1e}; {plain / 200 * NUM_SURVEYS / whole:.1f} times the time a plot"),
        ("global threshold lists", "10,000 x 10,000", flat_s, f"sF1 {sf1[1]:.4f}, expected-F1 lists {sf1[0]:.4f}"),
        ("fit of that threshold", "10,000 x 10,000", fit_s, f"{threshold:.4f}"),
        ("calibration fit", "10,000 x 10,000", calibrate_s,
         f"slope {calibration.slope:.3f}, intercept {calibration.intercept:.3f} (true: 1, 0)"),
        ("set scores", "10,000 x 10,000", sets_s, f"sF1 {scores.sample_f1:.4f}"),
        ("set scores", "1,000 x 10,000", ours_s, ""),
        ("the same by scikit-learn on dense tables, five scores", "1,000 x 10,000", reference_s,
         f"equal; {reference_s / ours_s:,.0f} times slower"),
        ("AUC, AP, top-k accuracy", "10,000 x 10,000", ranks_s, f"{ranks.num_species_scored} species"),
        ("AUC and AP by scikit-learn", f"10,000 x {len(scored)}", area_s,
         f"equal; {area_s / len(scored) * ranks.num_species_scored / ranks_s:.0f} times slower a species"),
    ]  # fmt: skip
    text = table(rows)
    print(text)
    write_text(Path(__file__).with_suffix(".md"), text)


def sklearn_set_scores(truth: np.ndarray, predicted: np.ndarray) -> list[float]:
    metrics = sklearn.metrics
    return [
        metrics.f1_score(truth, predicted, average="samples", zero_division=0),
        metrics.f1_score(truth, predicted, average="micro", zero_division=0),
        metrics.precision_score(truth, predicted, average="samples", zero_division=0),
        metrics.recall_score(truth, predicted, average="samples", zero_division=0),
        metrics.jaccard_score(truth, predicted, average="samples", zero_division=0),
    ]


def sklearn_rank_scores(truth: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    metrics = sklearn.metrics
    return [
        metrics.roc_auc_score(truth, scores, average=None),
        metrics.average_precision_score(truth, scores, average=None),
    ]


def table(rows: list[tuple[str, str, float, str]]) -> str:
    head = [
        "# Lists and metrics: time\n",
        f"`python benchmarks/decide.py` on {datetime.date.today()}: {machine()}, {torch.get_num_threads()} threads "
        f"(load {os.getloadavg()[0]:.1f}), torch {torch.__version__}, numpy {np.__version__}, "
        f"scikit-learn {sklearn.__version__}.\n",
        "| what | surveys x species | seconds | |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *(f"| {a} | {b} | {c:.3g} | {d} |" for a, b, c, d in rows)]) + "\n"


def machine() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return names[0].split(":")[1].strip() if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
