"""How much do a quarter, half and three quarters of a plot's species tell of the rest?

Of finished runs: ``python benchmarks/seen.py RUN RUN --save``. Each held-out survey is decided by calibrations, shares
and companions that were fitted on the other folds. Of each survey with two species or more, a share is given, or a
share of its own between none and all (``any``), at least one species and not the last one. All that are not given are
ranked: the average precision of the rest, per survey, as predicted and given what was seen, for the same hidden
species. Then the lists: their sF1 if what was seen is only added to the list, and if it also tells of the rest.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from machine import describe_machine, show_page
from releve.decide.calibration import fit_calibration, to_logits
from releve.decide.companions import fit_companions
from releve.decide.decision import fit_decision
from releve.evaluate.facts import bootstrap_blocks
from releve.evaluate.held_out import assessment_groups
from releve.lists import Lists
from releve.metrics.intervals import bootstrap_interval, ratio_interval
from releve.metrics.sets import score_sets
from releve.runs.folder import Run, open_run
from releve.runs.predict import predict_held_out

ANY = -1.0
"""A share of its own for each survey, between none and all."""
SHARES = (0.25, 0.5, 0.75, ANY)
HEADS = (
    *("run", "given", "surveys", "AP of the rest, none given", "given", "times (95 %)", "slope, none given", "given"),
    *("log-likelihood of the rest, none given", "given", "sF1, seen are added", "gain of telling (95 %)"),
)


def give(truth: Lists, share: float, seed: int) -> Lists:
    """Return a share of each survey's species, one at least and one less than all; none of a single one."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(truth.num_surveys):
        species = rng.permutation(truth.row(i))
        part = rng.random() if share == ANY else share
        rows.append(species[: min(max(round(part * len(species)), 1), max(len(species) - 1, 0))].tolist())
    return Lists.from_rows(rows)


def average_precision(probs_NS: torch.Tensor, hidden_NS: torch.Tensor) -> NDArray[np.float64]:
    """Return (N,) the mean, over a survey's hidden species, of the share of hidden ones among those ranked so high."""
    hidden_NS = hidden_NS.gather(1, probs_NS.argsort(dim=1, descending=True, stable=True)).double()
    ranks_S = torch.arange(1, probs_NS.shape[1] + 1)
    return ((hidden_NS.cumsum(dim=1) / ranks_S * hidden_NS).sum(dim=1) / hidden_NS.sum(dim=1)).numpy()


def fit_of_rest(probs_NS: torch.Tensor, is_rest_NS: torch.Tensor, hidden_NS: torch.Tensor) -> tuple[float, float]:
    """Return the calibration slope of the cells that are not given, and their log-likelihood in nats a survey."""
    probs, there = probs_NS[is_rest_NS].clamp(1e-7, 1 - 1e-7), hidden_NS[is_rest_NS]
    cells = Lists.from_pairs(np.flatnonzero(there.numpy()), np.zeros(int(there.sum())), len(there))
    nats = torch.where(there, probs, 1 - probs).double().log().sum() / len(probs_NS)
    return fit_calibration(to_logits(probs)[:, None], cells).slope, float(nats)


def measure(run: Run, name: str) -> list[str]:
    """Return the rows of a run."""
    rows, logits = predict_held_out(run)
    truth, store = run.store.labels.take(rows), run.store
    groups, everything = assessment_groups(store, rows), np.arange(len(rows))
    seen = {share: give(truth, share, seed=1) for share in SHARES}
    plain = torch.empty_like(next(iter(logits.values())))
    told = {share: torch.empty_like(plain) for share in SHARES}
    blocks = bootstrap_blocks(store.lon[rows], store.lat[rows])
    for group in groups:
        others = np.setdiff1d(everything, group)
        theirs = {kind: values[others] for kind, values in logits.items()}
        decision = fit_decision(theirs, truth.take(others), run.config.decide)
        companions = fit_companions(decision.probs(theirs), truth.take(others), blocks[others])
        assert companions is not None
        plain[group] = decision.probs({kind: values[group] for kind, values in logits.items()})
        for share in SHARES:
            told[share][group] = companions.update(plain[group], seen[share].take(group))
    there_NS = truth.to_csr(plain.shape[1]).toarray() > 0
    lines = []
    for share in SHARES:
        some = np.flatnonzero(seen[share].lengths())
        given_NS = torch.from_numpy(seen[share].take(some).to_csr(plain.shape[1]).toarray() > 0)
        hidden_NS = torch.from_numpy(there_NS[some]) & ~given_NS
        tables = plain[some], told[share][some]
        before_N, after_N = (average_precision(probs.masked_fill(given_NS, -1), hidden_NS) for probs in tables)
        low, high = ratio_interval(after_N, before_N, blocks[some], np.random.default_rng(0))
        (slope, nats), (slope_told, nats_told) = (fit_of_rest(probs, ~given_NS, hidden_NS) for probs in tables)
        lists = [run.decision.lists(probs).union(seen[share].take(some)) for probs in tables]
        added_N, telling_N = (score_sets(x, truth.take(some), plain.shape[1]).per_survey_f1 for x in lists)
        worse, better = bootstrap_interval(telling_N - added_N, blocks[some], np.random.default_rng(0))
        cells = [
            name,
            "any" if share == ANY else f"{share:.0%}",
            f"{len(some):,}",
            f"{before_N.mean():.4f}",
            f"{after_N.mean():.4f}",
        ]
        cells += [f"{after_N.mean() / before_N.mean():.3f} ({low:.3f} to {high:.3f})", f"{slope:.3f}"]
        cells += [f"{slope_told:.3f}", f"{nats:.2f}", f"{nats_told:.2f}", f"{added_N.mean():.4f}"]
        cells += [f"{(telling_N - added_N).mean():+.4f} ({worse:+.4f} to {better:+.4f})"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure the runs, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    started = time.monotonic()
    lines = [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    for path in options.runs:
        lines += measure(open_run(path), path.name)
    head = ["# What is seen foretells the rest", "", *(__doc__ or "").splitlines(), ""]
    minutes = (time.monotonic() - started) / 60
    notes = ["", f"{minutes:.0f} minutes, beside other work. {describe_machine()}.", ""]
    show_page([*head, *lines, *notes], __file__, save=options.save)


if __name__ == "__main__":
    main()
