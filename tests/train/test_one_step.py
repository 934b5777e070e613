"""One training step can be read: all that it enters, and what must be read to follow that, is under 800 lines.

Nothing is picked by hand. A step is taken while Python tells of every function of the package that is entered, from the
dealing of the rows to the finished update, in the loader's thread too. Counted are the lines of these functions; of
their classes the header, docstring, fields and ``__init__``; the constants of the package that they name; and the
classes that their signatures name.
"""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

import numpy as np
import pytest

import releve
from releve.models.config import Modality, ModelConfig
from releve.train.config import RecordsConfig, Regime, TrainConfig
from releve.train.rows import FoldRows
from releve.train.sampler import Sampler
from releve.train.start import start_training
from releve.train.step import Training, train_epoch
from stores import make_mixed_store

ROOT = Path(releve.__file__).parent
MAX_LINES, MAX_FILES = 800, 8


def entered_by(work: Callable[[], object]) -> set[CodeType]:
    """Return the functions of the package that are entered while something is done, in any thread."""
    entered: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(ROOT)):
            entered.add(frame.f_code)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return entered


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def lines_of(node: ast.stmt) -> set[int]:
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return set(range(first, (node.end_lineno or first) + 1))


@cache
def blank_lines(file: Path) -> set[int]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if not line.strip()}


def is_function(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef)


def class_lines(file: Path, node: ast.ClassDef) -> set[int]:
    """Return the lines of a class but those of its methods; ``__init__``, which says what there is, is kept."""
    lines = lines_of(node)
    for method in node.body:
        if is_function(method) and method.name != "__init__":
            lines -= lines_of(method)
    return lines - blank_lines(file)  # what is between methods that are not read


class Reading:
    """The lines that must be read, file by file."""

    def __init__(self) -> None:
        self.lines: dict[Path, set[int]] = {}
        self.parts: dict[str, int] = {}

    @property
    def num_lines(self) -> int:
        return sum(map(len, self.lines.values()))

    def __str__(self) -> str:
        listed = [f"{number:4d} {name}" for name, number in sorted(self.parts.items())]
        return "\n".join([f"{self.num_lines} lines of {len(self.lines)} files", *listed])

    def add(self, file: Path, name: str, lines: set[int]) -> bool:
        known = self.lines.setdefault(file, set())
        new = lines - known
        if new:
            self.parts[f"{file.relative_to(ROOT)}::{name}"] = len(new)
        known |= lines
        return bool(new)

    def add_function(self, code: CodeType) -> None:
        """Add the outermost function that a piece of code lies in, with its class, and what it names."""
        file = Path(code.co_filename)
        for node in tree_of(file).body:
            if code.co_firstlineno not in lines_of(node):
                continue
            if isinstance(node, ast.ClassDef):
                self.add_class(file, node)
                for method in node.body:
                    if is_function(method) and code.co_firstlineno in lines_of(method):
                        self.add(file, f"{node.name}.{method.name}", lines_of(method))
                        self.follow(file, method)
            elif is_function(node):
                self.add(file, node.name, lines_of(node))
                self.follow(file, node)

    def add_class(self, file: Path, node: ast.ClassDef) -> None:
        self.add(file, node.name, class_lines(file, node))

    def follow(self, file: Path, function: ast.FunctionDef) -> None:
        """Add the constants that a function names and the classes in its signature."""
        arguments = function.args
        of_all = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        signature = [a.annotation for a in of_all if a.annotation] + ([function.returns] if function.returns else [])
        typed = {name for annotation in signature for name in names_in(annotation)}
        for name in {*names_in(function)}:
            where, node = define(file, name)
            if isinstance(node, ast.ClassDef) and name in typed:
                self.add_class(where, node)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                self.add(where, name, lines_of(node))


def names_in(node: ast.AST) -> set[str]:
    found = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    texts = {
        inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
    }
    return found | texts


def define(file: Path, name: str) -> tuple[Path, ast.stmt | None]:
    """Return where the package defines a name that a file uses."""
    for node in tree_of(file).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return file, node
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, ast.Assign | ast.AnnAssign) and any(
            isinstance(t, ast.Name) and t.id == name for t in targets
        ):
            return file, node
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("releve."):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    other = ROOT.parent.joinpath(*(node.module or "").split("."))
                    other = other / "__init__.py" if other.is_dir() else other.with_suffix(".py")
                    return define(other, alias.name) if other.is_file() else (file, None)
    return file, None


TABLES = ("covariates", "survey", "location")
ALL = (*TABLES, "landsat", "climate", "patch")


def read_a_step(regime: Regime, modalities: tuple[Modality, ...]) -> Reading:
    """Return what must be read of an epoch of steps; here, the gathering is done ahead in the loader's thread."""
    store, none = make_mixed_store(), np.zeros(0, np.int64)
    plots, records = np.flatnonzero(store.is_plot), np.flatnonzero(~store.is_plot)
    rows = FoldRows(plots, none if regime == "pa" else records, none, none)
    config = TrainConfig(regime=regime, batch_size=30, device="cpu")
    model = ModelConfig(modalities=modalities, patch_backbone="test_resnet", embedding_dim=8, hidden_dim=16)
    training = start_training(store, rows, 7, model, config, RecordsConfig())
    sampler = Sampler(store, rows, RecordsConfig(), config.batch_size)

    def work() -> float:
        return train_epoch(training, sampler, np.random.default_rng(0), at=0, num_epochs=2, num_taken=0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "depth", 2)
        reading = Reading()
        for code in sorted(entered_by(work), key=lambda code: (code.co_filename, code.co_firstlineno)):
            reading.add_function(code)
    return reading


@pytest.mark.parametrize("regime", ["pa", "presence"])
def test_one_step_on_tables_can_be_read(regime: Regime) -> None:
    reading = read_a_step(regime, TABLES)
    print(reading)
    assert reading.num_lines <= MAX_LINES, reading
    assert len(reading.lines) <= MAX_FILES, reading


def test_the_count_misses_nothing_that_a_step_cannot_do_without() -> None:
    """The reader meets the dealing, the gathering in its thread, the network, the loss, its gradients, the update."""
    found = {name.partition("::")[2] for name in read_a_step("presence", ALL).parts}
    assert found >= {
        *("train_epoch", "take_step", "update_average", "learning_rate_at", "cross_entropy", "head_loss"),
        *(
            "Sampler.steps",
            "Draws.draw",
            "Gatherer.batch",
            "Training.gather",
            "_HeadLoss.forward",
            "_HeadLoss.backward",
        ),
        *("SpeciesModel.features", "TableEncoder", "TableEncoder.forward", "PatchEncoder.forward", "align_series"),
        *("Batch", "Step", "Part", "Processes", "LOG_EVERY", "CHUNK_BYTES"),
    }
