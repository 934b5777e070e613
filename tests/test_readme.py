"""The numbers of README's tables are those of the tables in benchmarks/, rounded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HALF = 0.00050001
"""Half of the last decimal that README shows."""


def rows_of(file: str, first_head: str) -> list[list[str]]:
    """Return the cells, head first, of the first table of a page whose first column is called so."""
    lines = iter((ROOT / file).read_text(encoding="utf-8").splitlines())
    found = [next(line for line in lines if line.startswith(f"| {first_head} |"))]
    for line in lines:
        if not line.startswith("|"):
            break
        found.append(line)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in found]
    return [cells[0], *cells[2:]]


def numbers(cell: str) -> list[float]:
    return [float(text) for text in re.findall(r"[-+]?\d*\.\d+", cell)]


def test_the_table_of_real_plots_is_that_of_the_benchmark() -> None:
    shown, measured = rows_of("README.md", "model"), rows_of("benchmarks/geoplant_mini.md", "model")
    assert shown[0] == ["model", "sF1 (95 %)", "gain of the run (95 %)", "macro F1", "AUC"]
    assert len(shown) == len(measured) == 9
    for ours, theirs in zip(shown[1:], measured[1:], strict=True):
        row = dict(zip(measured[0], theirs, strict=True))
        expected = numbers(row["sF1"]) + numbers(row["95 %"]) + numbers(row["gain of the run (95 %)"])
        expected += numbers(row["macro F1"]) + numbers(row["AUC"])
        found = [number for cell in ours[1:] for number in numbers(cell)]
        assert found == pytest.approx(expected, abs=HALF), ours[0]
        assert row["model"] == "geoplant-mini" if "**" in ours[0] else ours[0] == row["model"]


def test_the_table_of_presence_only_models_is_that_of_the_benchmark() -> None:
    shown, measured = rows_of("README.md", "NCEAS"), rows_of("benchmarks/nceas.md", "method")
    by_name = {row[0]: dict(zip(measured[0], row, strict=True)) for row in measured[1:]}
    names = {
        "a blend of five models, which no recipe trains": "blend of five models",
        "`releve train`, regime `po`": "releve train, regime po",
        "down-sampled forest, target-group background": "forest, target group",
        "MaxEnt, target-group background": "MaxEnt, target group",
        "down-sampled forest, random background": "forest, random",
        "MaxEnt, random background": "MaxEnt, random",
    }
    assert [row[0] for row in shown[1:]] == list(names)
    for name, auc, precision in shown[1:]:
        row = by_name[names[name]]
        expected = numbers(row["AUC, 90 species"]) + numbers(row["AP"])
        assert numbers(auc) + numbers(precision) == pytest.approx(expected, abs=HALF), name


def test_what_a_run_with_nothing_set_comes_to_is_that_of_the_benchmark() -> None:
    measured = rows_of("benchmarks/nceas_study.md", "method")
    ours = dict(zip(measured[0][:3], measured[1], strict=False))
    assert ours["method"] == "the run"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"comes to AUC (\.\d+) and average precision (\.\d+) \(\[table\]\(benchmarks/nceas_study", text)
    assert shown is not None
    expected = numbers(ours["AUC, 90 species"]) + numbers(ours["AP"])
    assert [float(number) for number in shown.groups()] == pytest.approx(expected, abs=HALF)
