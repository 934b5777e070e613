"""Expected-F1 lists and the metrics beside the straightforward alternatives: how good and how fast.

    python benchmarks/decide.py [--run RUN] [--quality-only]

Quality: list rules on the same probabilities, of simulated plots and of the held-out plots of a finished run (the
recipe geoplant-mini), with the paired interval of what exact expected F1 gains; and what calibration gains. Every
setting is fitted on other folds than those it is scored on. Time: all alternatives run in this one process on the same
synthetic plots: logits are normal around -9 (standard deviation 2.2), which gives about 13 species a plot, and the
truth is drawn from the probabilities. Writes decide.md beside it; a part that is not run keeps its old text.
"""

from __future__ import annotations

import argparse
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

from releve.decide.calibration import fit_calibration, to_logits
from releve.decide.config import DecideConfig
from releve.decide.decision import KindDecision, fit_decision
from releve.decide.expected_f1 import expected_f1_sets, expected_f1_value
from releve.decide.rules import FITS, RULES, fit_threshold, threshold_sets
from releve.evaluate.facts import BOOTSTRAP_BLOCK_KM
from releve.evaluate.held_out import assessment_groups
from releve.files import write_text
from releve.geo import block_ids
from releve.lists import Lists
from releve.metrics.intervals import bootstrap_interval
from releve.metrics.ranks import rank_scores
from releve.metrics.sets import score_sets
from releve.runs.folder import open_run
from releve.runs.predict import predict_held_out

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


Plots = tuple[dict[str, torch.Tensor], Lists, list[np.ndarray], np.ndarray]


def run_plots(folder: Path) -> Plots:
    """Return logits by kind, truth, groups and blocks of the held-out plots of a run."""
    run = open_run(folder)
    rows, logits = predict_held_out(run)[:2]
    lon, lat = run.store.lon[rows], run.store.lat[rows]
    blocks = block_ids(lon, lat, BOOTSTRAP_BLOCK_KM)
    return logits, run.store.labels.take(rows), assessment_groups(run.store, rows), blocks


def simulated_plots(num_surveys: int = 4000, num_species: int = 1000) -> Plots:
    """Return plots whose richness differs, and two kinds that see the true logits under noise, one too steep."""
    rng = np.random.default_rng(0)
    true = rng.normal(0, 1.8, (num_surveys, num_species)) + rng.normal(-5.5, 1.5, num_species)
    true += rng.normal(0, 0.8, (num_surveys, 1))
    truth = Lists.from_pairs(*np.nonzero(rng.random(true.shape) < 1 / (1 + np.exp(-true))), num_surveys)
    kinds = {"a": true + rng.normal(0, 1.2, true.shape), "b": 1.6 * (true + rng.normal(0, 1.5, true.shape))}
    blocks = np.arange(num_surveys) // 20
    logits = {kind: torch.from_numpy(values).float() for kind, values in kinds.items()}
    return logits, truth, [np.flatnonzero(blocks % 5 == fold) for fold in range(5)], blocks


def plug_in_sets(probs: torch.Tensor) -> Lists:
    ordered, columns = probs.double().sort(dim=1, descending=True, stable=True)
    sizes = torch.arange(1, probs.shape[1] + 1)
    best = (2 * ordered.cumsum(dim=1) / (sizes + ordered.sum(dim=1, keepdim=True))).argmax(dim=1) + 1
    return Lists.from_rows([row[:k].tolist() for row, k in zip(columns, best, strict=True)])


def cross_fitted(
    plots: Plots, calibration: str = "platt", *, drawn_out: bool = True
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return probabilities by decisions fitted on other groups, and for each group those of the rows fitted on."""
    logits, truth, groups, _ = plots
    probs, fitted_on = torch.empty_like(next(iter(logits.values()))), []
    for group in groups:
        others = np.setdiff1d(np.arange(len(probs)), group)
        config = DecideConfig(calibration=calibration)
        inside = {kind: z[others] for kind, z in logits.items()}
        decision = fit_decision(inside, truth.take(others), config)
        if not drawn_out:
            fits = {kind: fit_calibration(z, truth.take(others)) for kind, z in inside.items()}
            kinds = {
                kind: KindDecision(calibration=fit, share=decision.kinds[kind].share) for kind, fit in fits.items()
            }
            decision = decision.model_copy(update={"kinds": kinds})
        probs[group] = decision.probs({kind: z[group] for kind, z in logits.items()})
        fitted_on.append(decision.probs({kind: z[others] for kind, z in logits.items()}))
    return probs, fitted_on


def lists_of(plots: Plots, probs: torch.Tensor, decide: Callable[[int, np.ndarray], Lists]) -> Lists:
    """Return the lists of all groups; ``decide`` gets the number of the group and the rows it was not fitted on."""
    pairs = []
    for number, group in enumerate(plots[2]):
        lists = decide(number, np.setdiff1d(np.arange(len(probs)), group))
        pairs.append((group[lists.surveys()], lists.indices))
    surveys, species = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return Lists.from_pairs(surveys, species, len(probs))


def quality(name: str, plots: Plots) -> str:
    """Return the tables of rules and of calibrations on the same plots."""
    _, truth, groups, blocks = plots
    probs, fitted_on = cross_fitted(plots)
    num_species = probs.shape[1]

    def by_rule(rule: str) -> Lists:
        def decide(number: int, others: np.ndarray) -> Lists:
            setting = FITS[rule](fitted_on[number], truth.take(others), 0.9)
            return RULES[rule](probs[groups[number]], setting)

        return lists_of(plots, probs, decide)

    found = {rule: by_rule(rule) for rule in ("expected_f1", "top_k", "threshold", "species_threshold")}
    found["plug-in (ratio of expectations)"] = plug_in_sets(probs)
    exact = score_sets(found["expected_f1"], truth, num_species)
    lines = [
        f"## Quality: {name}\n",
        f"{len(probs):,} plots, {num_species:,} species; the gain is that of exact expected F1, with the 95 % interval "
        f"of a paired bootstrap over {len(np.unique(blocks))} blocks.\n",
        "| rule | sF1 | macro F1 | length | gain of expected F1 | 95 % |",
        "|---|---|---|---|---|---|",
    ]
    for rule, lists in found.items():
        scores = score_sets(lists, truth, num_species)
        row = f"| {rule} | {scores.sample_f1:.4f} | {scores.macro_f1:.4f} | {lists.lengths().mean():.1f} |"
        gain = exact.per_survey_f1 - scores.per_survey_f1
        low, high = bootstrap_interval(gain, blocks, np.random.default_rng(0))
        lines.append(row + (" | |" if rule == "expected_f1" else f" {gain.mean():+.4f} | {low:+.4f} to {high:+.4f} |"))
    lines.append(
        f"\nThe best that thresholds of species could do, were they chosen on the scored plots themselves: macro F1 "
        f"{best_macro_f1(probs.numpy(), truth):.4f}.\n"
    )
    lines += [
        "Calibrations; slope and intercept are those of the assessed probabilities, 1 and 0 if right, and the "
        "log-likelihood is in nats a plot. The gains are those over Platt with the mean of the kinds drawn out, the "
        "default, with 95 % intervals of the paired bootstrap:\n",
        "| calibration | sF1 | gain | 95 % | macro F1 | length | slope | intercept | log-likelihood | gain | 95 % |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    dense = torch.from_numpy(truth.to_csr(num_species).toarray()).float()
    first: tuple[np.ndarray, np.ndarray] | None = None
    for calibration, drawn_out in [("platt", True), ("none", True), ("platt", False)]:
        calibrated = cross_fitted(plots, calibration, drawn_out=drawn_out)[0].clamp(1e-7, 1 - 1e-6)
        lists = expected_f1_sets(calibrated)
        scores, again = score_sets(lists, truth, num_species), fit_calibration(to_logits(calibrated), truth)
        likely = -torch.nn.functional.binary_cross_entropy(calibrated, dense, reduction="none").sum(dim=1).numpy()
        first = first or (scores.per_survey_f1, likely)
        gains = []
        for values, known, digits in zip((scores.per_survey_f1, likely), first, (4, 2), strict=True):
            low, high = bootstrap_interval(values - known, blocks, np.random.default_rng(0))
            gain = f"{(values - known).mean():+.{digits}f} | {low:+.{digits}f} to {high:+.{digits}f}"
            gains.append(gain if calibration != "platt" or not drawn_out else "|")
        lines.append(
            f"| {calibration}{'' if drawn_out else ', not drawn out'} | {scores.sample_f1:.4f} | {gains[0]} | "
            f"{scores.macro_f1:.4f} | {lists.lengths().mean():.1f} | {again.slope:.3f} | {again.intercept:+.3f} | "
            f"{likely.mean():.2f} | {gains[1]} |"
        )
    return "\n".join(lines) + "\n"


def best_macro_f1(probs: np.ndarray, truth: Lists) -> float:
    """Return the macro F1 of the best threshold of each species, chosen with the answers known."""
    observed = truth.to_csr(probs.shape[1]).tocsc()
    counts = np.diff(observed.indptr)
    best = []
    for species in np.flatnonzero(counts):
        order = np.argsort(-probs[:, species], kind="stable")
        hits = observed[:, [species]].toarray().ravel()[order].cumsum()
        best.append((2 * hits / (np.arange(1, len(hits) + 1) + counts[species])).max())
    return float(np.mean(best))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="finished run of recipes/geoplant-mini.toml")
    parser.add_argument("--quality-only", action="store_true", help="leave the table of times as it is")
    options = parser.parse_args()
    out = Path(__file__).with_suffix(".md")
    marker = "# Lists and metrics: time"
    old = out.read_text(encoding="utf-8") if out.exists() else ""
    times = old[old.index(marker) :] if options.quality_only else time_all()
    parts = [f"# Lists: quality\n\n`python benchmarks/decide.py` on {datetime.date.today()}.\n"]
    parts.append(quality("simulated plots", simulated_plots()))
    if options.run:
        parts.append(quality("held-out real plots, geoplant-mini", run_plots(options.run)))
    text = "\n".join([*parts, times])
    print(text)
    write_text(out, text)


def time_all() -> str:
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
    return table(rows)


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
