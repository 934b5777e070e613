"""Real plots: one command from raw files to predictions.csv, timed, beside the reference models on the same folds.

    python benchmarks/geoplant_mini.py --data path/to/geoplant-mini

Writes geoplant_mini.md beside this file. Without the data, which may not be redistributed, it says so and stops.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine

ROOT = Path(__file__).parents[1]
COMMAND = "releve run recipes/geoplant-mini.toml --data geoplant-mini --out RUN"
COLUMNS = ("sample_f1", "macro_f1", "micro_f1", "precision", "recall", "auc_macro")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "geoplant-mini")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"no data at {options.data}: nothing measured")
        return
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        recipe = ROOT / "recipes" / "geoplant-mini.toml"
        arguments = ["run", recipe, "--data", options.data, "--out", out, "--seed", options.seed]
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "releve.cli", *map(str, arguments)], check=True)
        seconds = time.monotonic() - started
        scores = json.loads((out / "evaluation" / "scores.json").read_text(encoding="utf-8"))
        lists = (out / "predictions.csv").read_text(encoding="utf-8").splitlines()[1:]
    lengths = [len(line.split(",")[1].split()) for line in lists]
    lines = [
        "# Real plots: geoplant-mini",
        "",
        f"`{COMMAND} --seed {options.seed}`: **{seconds:.0f} s** from raw files to {len(lists)} lists of "
        f"{sum(lengths) / len(lengths):.1f} species. {describe_machine()}.",
        "",
        f"Held-out 50 km blocks, {scores[0]['num_surveys']:,} surveys, 95 % interval by a bootstrap over blocks. The "
        "run is scored by the members that had the survey's fold held out; the test lists average those of all five "
        "folds and the ones that are fitted to all rows. Every reference model sees the tables that the run sees "
        "(covariates, area, uncertainty, year, country, region, place), is fitted on the same rows, and calibrated and "
        "made into lists as the run is. The gain is that of the run over the row's model on the same surveys, with the "
        "interval over the same resampled blocks. "
        "AUC is within folds, over the species for which it is defined.",
        "",
        "| model | sF1 | 95 % | gain of the run (95 %) | macro F1 | micro F1 | precision | recall | AUC |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in scores:
        interval = f"{row['sample_f1_low']:.3f} to {row['sample_f1_high']:.3f}"
        gain = "" if row["is_model"] else "{gain:+.4f} ({gain_low:+.4f} to {gain_high:+.4f})".format(**row)
        first, *others = (f"{row[name]:.4f}" for name in COLUMNS)
        lines.append(f"| {row['model']} | {first} | {interval} | {gain} | {' | '.join(others)} |")
    text = "\n".join(lines) + "\n"
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
