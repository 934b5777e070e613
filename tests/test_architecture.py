"""Imports run one way: a part may import only from those before it in this list."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import releve

ORDER = [
    *("errors", "config", "files", "progress", "geo", "lists", "metrics", "ingest", "rasters", "discover"),
    *(
        "prepare",
        "store",
        "study",
        "data",
        "models",
        "decide",
        "train",
        "runs",
        "evaluate",
        "predict",
        "explain",
        "report",
        "pipeline",
        "api",
    ),
    *("nceas", "simulate", "demo"),
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


HEAVY = {"torch", "polars", "numpy", "scipy", "sklearn", "matplotlib", "timm", "torchvision", "rasterio"}
SHOW = "; print('MODULES', *sorted({name.partition('.')[0] for name in sys.modules}))"


def modules_after(code: str) -> set[str]:
    """Return the packages that a new process has imported after some code."""
    done = subprocess.run([sys.executable, "-c", f"import sys; {code}{SHOW}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.partition("MODULES")[2].split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "missing.toml", "--data", ".", "--out", "x"],
        ["run", "missing.toml", "--data", "missing", "--out", "x"],
        ["train", "missing.toml", "--store", "missing", "--out", "x"],
        ["prepare", "missing.toml", "--data", ".", "--out", "x"],
        ["evaluate", "missing"],
        ["predict", "missing", "--data", ".", "--out", "x"],
        ["explain", "missing"],
        ["compare", "missing", "missing"],
        ["score", "missing.csv", "missing.csv"],
        ["check", "missing"],
        ["init", "missing"],
    ],
)
def test_help_and_what_is_missing_are_said_before_anything_heavy_is_imported(arguments: list[str]) -> None:
    """Each of these packages takes between .2 and 10 seconds."""
    code = f"import atexit; from releve.cli import main; sys.argv = ['releve', *{arguments}]\ntry: main()\n"
    code += "except SystemExit as error: assert (error.code or 0) == (0 if '--help' in sys.argv else 2)\n"
    assert not modules_after(code + "_ = 0") & HEAVY


def test_training_on_tables_imports_no_imagery_figures_or_reference_models() -> None:
    found = modules_after("import releve.pipeline, releve.runs.estimate")
    assert not found & {"sklearn", "matplotlib", "timm", "torchvision", "jinja2"} and "torch" in found


def test_a_recipe_is_read_without_anything_heavy() -> None:
    command = "import sys, releve.config; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    ours = {"releve", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
    found = {name for name in done.stdout.split() if not name.startswith("_")}
    assert found <= ours | set(sys.stdlib_module_names) | NOT_OURS


def test_public_names_are_loaded_when_they_are_asked_for() -> None:
    assert not modules_after("import releve") & HEAVY
    for name in releve.PUBLIC:
        assert getattr(releve, name).__module__ == f"releve.{releve.PUBLIC[name]}" and name in dir(releve)
    with pytest.raises(AttributeError, match="no attribute 'opn_store'; it has .*'open_store'"):
        _ = releve.opn_store


def test_file_names_are_never_taken_for_patterns() -> None:
    """``places [1].csv`` would be read as ``places 1.csv``, and a folder called ``[draft]`` would hold nothing."""
    readers = {"read_csv", "read_parquet", "scan_csv", "scan_parquet"}
    wrong, num_read = [], 0
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in readers:
                num_read += 1
                if not any(each.arg == "glob" and not each.value.value for each in node.keywords):  # type: ignore[attr-defined]
                    wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert num_read > 5 and not wrong


HEAVY = {"torch", "polars", "numpy", "scipy", "sklearn", "matplotlib", "timm", "torchvision", "rasterio", "pyproj"}
MISSING = """
import contextlib, io, sys
import releve.cli
recipe, missing, out = sys.argv[1], sys.argv[2] + "/missing", sys.argv[2] + "/out"
for arguments in (
    ["train", missing + ".toml", "--store", missing, "--out", out],
    ["train", recipe, "--store", missing, "--out", out],
    ["train", recipe, "--store", sys.argv[2], "--out", out, "--set", "train.epoch=1"],
    ["prepare", recipe, "--data", missing, "--out", out],
    ["prepare", missing + ".toml", "--data", sys.argv[2], "--out", out],
    ["run", recipe, "--data", missing, "--out", out],
    ["run", missing + ".toml", "--data", sys.argv[2], "--out", out],
    ["select", recipe, "--store", missing, "--try", "train.epochs=1,2"],
    ["group", missing, "--out", out],
    ["check", missing],
    ["init", missing],
    ["evaluate", missing],
    ["report", missing],
    ["predict", missing, "--data", sys.argv[2], "--out", out],
    ["explain", missing],
    ["compare", missing, missing],
    ["ensemble", missing, missing, "--out", out],
    ["score", missing, missing],
    ["benchmark", "nceas", missing],
):
    sys.argv, said, code = ["releve", *arguments], io.StringIO(), 0
    with contextlib.redirect_stderr(said):
        try:
            releve.cli.main()
        except SystemExit as error:
            code = error.code
    heavy = sorted({name.partition(".")[0] for name in sys.modules} & set(HEAVY))
    assert code == 2 and said.getvalue().startswith("error: ") and not heavy, (arguments, code, said.getvalue(), heavy)
"""


def test_what_is_missing_is_told_by_every_command_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    recipe = ROOT.parents[1] / "recipes" / "geoplant-mini.toml"
    code = MISSING.replace("HEAVY", repr(HEAVY))
    done = subprocess.run([sys.executable, "-c", code, recipe, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_training_on_tables_imports_neither_images_nor_figures_nor_reference_models(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import releve.pipeline
from releve.config import make_config
from releve.train.loop import train_member
from releve.train.members import Member
from stores import make_store
content = {"model": {"modalities": ["covariates", "survey", "location"], "embedding_dim": 8, "hidden_dim": 8}}
config = make_config(content | {"train": {"epochs": 1, "device": "cpu"}}, origin="test")
place = config.split, Path(sys.argv[1])
train_member(make_store(90), Member(0, 0, 0), config.model, config.train, *place)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "member.json").is_file()
    assert not {"timm", "torchvision", "sklearn", "matplotlib", "jinja2"} & set(done.stdout.split())
