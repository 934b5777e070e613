"""docs/own-data.md: its commands are run, and what they print is what the page shows.

Run this file to write into the page what the commands print now. The picture is one of run/report.html in a browser.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from releve.ingest import config

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "own-data.md"
BLOCK = re.compile(
    r"^```(?P<head>console|toml study\.toml|csv places\.csv|python|text)\n(?P<body>.*?)^```$", re.M | re.S
)
SLOW = ("releve run", "releve predict", "cat lists", "import ")
"""What stands behind the training, or is it."""
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.\d+|\.\d+)(?!\w)")
TOLERANCE = 0.03
"""Scores of another processor differ by this much."""


def shell(command: str, folder: Path) -> str:
    """Return what a command prints in a folder, on a wide terminal."""
    program, *arguments = shlex.split(command)
    if program == "releve":
        line = [sys.executable, "-m", "releve", *arguments]
    elif program == "python":
        line = [sys.executable, str(ROOT / arguments[0]), *arguments[1:]]
    elif program in ("ls", "head", "cat"):
        raw = subprocess.run([program, *arguments], cwd=folder, stdout=subprocess.PIPE, check=True).stdout
        text = _decoded(raw).replace("\r\n", "\n")
        return "".join(line.rstrip() + "\n" for line in text.splitlines())
    else:
        raise AssertionError(f"the page has the command {command!r}")
    settings = {"COLUMNS": "110", "NO_COLOR": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(line, cwd=folder, env=os.environ | settings, text=True, check=False, **streams)
    assert done.returncode == 0, done.stdout
    return "".join(line.rstrip() + "\n" for line in done.stdout.strip("\n").splitlines())


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252")


def follow(folder: Path, *, slow: bool) -> str:
    """Return the page with what its commands print in a folder; without the slow ones their blocks are as they were."""
    printed = ""

    def console(body: str) -> str:
        parts = re.split(r"^\$ (.*)\n", body, flags=re.M)[1:]
        lines = [
            f"$ {command}\n" + (shown if command.startswith(SLOW) and not slow else shell(command, folder))
            for command, shown in zip(parts[::2], parts[1::2], strict=True)
        ]
        return "".join(lines)

    def study(_: str) -> str:
        return (folder / "study.toml").read_text(encoding="utf-8")

    def places(body: str) -> str:
        (folder / "places.csv").write_text(body, encoding="utf-8")
        return body

    def python(body: str) -> str:
        nonlocal printed
        if slow:
            line = [sys.executable, "-c", body]
            done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            printed = done.stdout
        return body

    def text(body: str) -> str:
        return printed if slow else body

    kinds: dict[str, Callable[[str], str]] = {"console": console, "python": python, "text": text}
    kinds |= {"toml study.toml": study, "csv places.csv": places}

    def followed(block: re.Match[str]) -> str:
        return f"```{block['head']}\n{kinds[block['head']](block['body'])}```"

    return BLOCK.sub(followed, PAGE.read_text(encoding="utf-8"))


def test_the_folder_is_looked_through_and_checked_as_the_page_shows(tmp_path: Path) -> None:
    assert follow(tmp_path, slow=False) == PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_command_of_the_page_prints_what_it_shows(tmp_path: Path) -> None:
    now, shown = follow(tmp_path, slow=True), PAGE.read_text(encoding="utf-8")
    assert NUMBER.sub("0", now) == NUMBER.sub("0", shown)
    numbers = [[float(each) for each in NUMBER.findall(page)] for page in (now, shown)]
    assert numbers[0] == pytest.approx(numbers[1], abs=TOLERANCE)
    assert (tmp_path / "run" / "report.html").is_file()


def test_every_key_of_a_study_is_on_the_page() -> None:
    """And no other: a table for each part of the description."""
    sections = {
        "`[study]`": config.StudyConfig,
        "`[[study.plots]]` and `[[study.records]]`": config.PlotsConfig,
        "`[study.plots.species_table]`": config.SpeciesTable,
        "`[[study.covariates]]`": config.CovariateTable,
        "`[study.covariates.ranges.NAME]`": config.CovariateRange,
        "`[[study.rasters]]`": config.RasterConfig,
        "`[study.patches]`": config.PatchConfig,
        "`[[study.series]]`": config.SeriesConfig,
    }
    _, *parts = re.split(r"^### (.*)\n", PAGE.read_text(encoding="utf-8"), flags=re.M)
    shown = dict(zip(parts[::2], parts[1::2], strict=True))
    found = {name: re.findall(r"^\| `(\w+)` \|", text, flags=re.M) for name, text in shown.items()}
    assert {name: sorted(keys) for name, keys in found.items()} == {
        name: sorted(part.model_fields) for name, part in sections.items()
    }
    meanings = shown["`[[study.plots]]` and `[[study.records]]`"].partition("What a column may mean:")[2]
    assert re.findall(r"`(\w+)`", meanings) == list(get_args(config.Role))


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else made)
        PAGE.write_text(follow(folder, slow=True), encoding="utf-8")
