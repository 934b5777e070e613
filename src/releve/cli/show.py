"""Tables and sentences on the terminal."""

from __future__ import annotations

import math
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_json(content: dict[str, Any]) -> None:
    """Print one object, in which what is not defined is null."""
    from releve.files import json_text

    print(json_text(content))


def print_facts(title: str, facts: dict[str, Any]) -> None:
    """Print a title and a line for each fact."""
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(Text(name.replace("_", " ")), Text(told(value, digits=4)))
    print_titled(title, table)


def print_rows(title: str, head: list[str], rows: list[list[Any]]) -> None:
    """Print a table whose first column are names: they stay whole, however long."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for i, name in enumerate(head):
        table.add_column(Text(name), justify="right" if i else "left")
    for row in rows:
        table.add_row(*(Text(told(value)) for value in row))
    print_titled(title, table)


def print_titled(title: str, table: Table) -> None:
    """Print a title and a table that is as wide as it must be: no name of a file is broken in its middle."""
    from rich.measure import Measurement

    console = Console()
    console.print(Text(title, style="italic"), soft_wrap=True)
    width = max(console.width, Measurement.get(console, console.options.update(width=9999), table).maximum)
    Console(width=width).print(table)


def print_lines(title: str, lines: list[str]) -> None:
    """Print sentences as they are: the terminal breaks them, no name of a file is broken by us."""
    for line in (Text(title, style="italic"), *map(Text, lines), Text("")):
        Console().print(line, soft_wrap=True)


def told(value: Any, digits: int = 3) -> str:
    """Return a value as people read it: a number with some decimals, a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "\N{EN DASH}"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.{digits}f}" if digits > 3 else short(value)


def print_store(store: Any) -> None:
    """Print what a store holds and what was left out of it."""
    manifest = store.manifest
    facts: dict[str, Any] = {"surveys": f"{manifest.num_surveys:,}", "species": f"{manifest.num_species:,}"}
    for name, array in manifest.arrays.items():
        facts[name] = f"{array.num_rows:,} surveys of {array.shape} {array.dtype}, {array.encoding}"
    for split, reasons in manifest.dropped.items():
        for reason, count in reasons.items():
            what = f"{reason} masked" if split.endswith("covariates") else reason
            facts[f"{split}: {what}"] = f"{count:,}"
    if manifest.problems:
        facts["files that could not be read"] = f"{len(manifest.problems):,}, listed in manifest.json"
    if manifest.leakage:
        nearest = min(row["nearest_train_km"] for row in manifest.leakage)
        median = sum(row["median_train_km"] for row in manifest.leakage) / len(manifest.leakage)
        facts["validation to nearest training row"] = f"{nearest:.1f} km at least, {median:.1f} km in the median"
    print_facts(f"store in {store.path}", facts)


def print_scores(rows: list[dict[str, Any]]) -> None:
    """Print one line a model; the file of scores holds more numbers with more digits."""
    names = {"sample_f1": "sF1", "interval": "95 %", "gain": "gain of the run", "macro_f1": "macro", "auc_macro": "AUC"}
    if any("auc_gain" in row for row in rows):
        names = {"auc_macro": "AUC", "auc_gain": "gain of the run", "ap_macro": "AP", "boyce": "Boyce"}
    shown = []
    for row in rows:
        interval = f"{told(row['sample_f1_low'])}\N{EN DASH}{told(row['sample_f1_high'])}"
        whole = row | {"interval": interval}
        whole |= {name: "" if row["is_model"] else gain(row, name) for name in ("gain", "auc_gain") if name in names}
        shown.append([row["model"], *(whole[name] for name in names)])
    what = "How well held-out places are ranked" if "auc_gain" in names else "F1 and more on held-out spatial blocks"
    print_rows(what, ["model", *names.values()], shown)


def print_comparison(rows: list[dict[str, Any]]) -> None:
    """Print one line a run; --json and --out hold more numbers with more digits."""
    names = {"regime": "regime", "records": "records", "sample_f1": "sF1", "gain": "gain (95 %)"}
    names |= {"macro_f1": "macro", "auc_macro": "AUC"}
    names |= {"test_sample_f1": "test sF1"} if "test_sample_f1" in rows[0] else {}
    shown = []
    for row in rows:
        whole = row | {"gain": "reference" if row["is_reference"] else gain(row)}
        shown.append([row["run"], *(whole[name] for name in names)])
    print_rows(f"{rows[0]['num_plots']:,} plots that all runs have held out", ["run", *names.values()], shown)


def gain(row: dict[str, Any], name: str = "gain") -> str:
    """Return a paired difference with its interval, as ``+.012 (+.003, +.020)``."""
    values = [row[f"{name}{end}"] for end in ("", "_low", "_high")]
    gain, *ends = (
        f"{value:+.3f}".replace("0.", ".") if value is not None and math.isfinite(value) else "\N{EN DASH}"
        for value in values
    )
    return f"{gain} ({', '.join(ends)})"


def short(value: float) -> str:
    """Return a score with three decimals, as ``.206``."""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"
