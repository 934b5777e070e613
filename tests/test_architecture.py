"""Imports run one way: a part may import only from those before it in this list."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import releve

ORDER = [
    *("errors", "config", "files", "progress", "geo", "lists", "metrics", "ingest", "prepare", "store", "data"),
    *("models", "decide", "train", "runs", "evaluate", "predict", "report", "pipeline", "nceas", "simulate", "demo"),
    *("cli", "__main__"),
]
NOT_OURS = {"sitecustomize", "usercustomize", "google", "mpl_toolkits"}
"""What a Python installation may import before anything is asked for."""
ROOT = Path(releve.__file__).parent


def part_of(module: str) -> str:
    """Return the room of a module, or ``config`` for the light description of a stage, which all may read."""
    _, room, *inside = module.split(".")
    return "config" if inside == ["config"] else room


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_parts(file: Path) -> set[str]:
    """Return the parts of the package that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("releve."):
            found.add(part_of(node.module or ""))
        elif isinstance(node, ast.ImportFrom) and node.module == "releve":
            found |= {name.name for name in node.names} & set(ORDER)
        elif isinstance(node, ast.Import):
            found |= {part_of(name.name) for name in node.names if name.name.startswith("releve.")}
    return found


def test_every_part_has_its_place_and_imports_only_what_comes_before() -> None:
    files = [file for file in ROOT.rglob("*.py") if file != ROOT / "__init__.py"]
    assert {part_of(module_of(file)) for file in files} == set(ORDER)
    wrong = [
        f"{file.relative_to(ROOT)} imports {other}"
        for file in files
        for other in imported_parts(file)
        if ORDER.index(other) > ORDER.index(part_of(module_of(file)))
    ]
    assert not wrong


def test_a_recipe_is_read_without_anything_heavy() -> None:
    command = "import sys, releve.config; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    ours = {"releve", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
    found = {name for name in done.stdout.split() if not name.startswith("_")}
    assert found <= ours | set(sys.stdlib_module_names) | NOT_OURS
