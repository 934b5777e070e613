"""Imports run one way: a part may import only from those before it in this list."""

from __future__ import annotations

import ast
from pathlib import Path

import releve

ORDER = [
    *("errors", "distributed", "files", "progress", "geo", "metrics", "submission", "ingest", "prepare", "decide"),
    *("store", "data", "losses", "head_loss", "models", "evaluate", "regimes", "checkpoint", "members", "objective"),
    *("optimizer", "trouble", "validation", "train", "config", "runs", "predict"),
    *("report", "pipeline", "ensemble", "estimate", "compare", "select", "nceas", "simulate", "demo"),
    *("cli", "__main__"),
]
ROOT = Path(releve.__file__).parent


def part_of(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_parts(file: Path) -> set[str]:
    """Return the parts of the package that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("releve."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("releve.")}
    return found


def test_every_part_has_its_place_and_imports_only_what_comes_before() -> None:
    files = [file for file in ROOT.rglob("*.py") if file != ROOT / "__init__.py"]
    assert {part_of(file) for file in files} == set(ORDER)
    wrong = [
        f"{file.relative_to(ROOT)} imports {other}"
        for file in files
        for other in imported_parts(file)
        if ORDER.index(other) > ORDER.index(part_of(file))
    ]
    assert not wrong


def test_one_training_step_is_understood_in_a_thousand_lines() -> None:
    parts = ["data/batch.py", "data/gather.py", "models/model.py", "losses/sites.py", "head_loss.py", "objective.py"]
    parts.append("train.py")
    assert sum(len((ROOT / part).read_text(encoding="utf-8").splitlines()) for part in parts) <= 1000
