"""The record of how an output came about names the commit of Relevé, never that of a repository around it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from releve.runs.provenance import git_commit


def commit_all(folder: Path) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], ["add", "-A"], [*names, "commit", "-q", "-m", "x", "--allow-empty"]):
        subprocess.run(["git", "-C", str(folder), *arguments], check=True)
    done = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the files that tell a checkout of Relevé."""
    package = tmp_path / "src" / "releve"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "releve"\n')
    return tmp_path


def test_a_checkout_is_told_by_its_commit(checkout: Path) -> None:
    package = checkout / "src" / "releve"
    assert git_commit(package) is None  # no repository yet
    commit = commit_all(checkout)
    assert git_commit(package) == commit and len(commit) == 40


def test_a_package_installed_inside_the_users_repository_has_no_commit(checkout: Path) -> None:
    (checkout / ".gitignore").write_text(".venv\n")
    installed = checkout / ".venv" / "lib" / "site-packages" / "releve"
    shutil.copytree(checkout / "src" / "releve", installed)
    commit_all(checkout)
    assert git_commit(installed) is None


@pytest.mark.parametrize("name", ["thesis", None])
def test_a_copy_that_the_users_own_repository_tracks_has_no_commit(checkout: Path, name: str | None) -> None:
    if name:
        (checkout / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
    else:
        (checkout / "pyproject.toml").unlink()
    commit_all(checkout)
    assert git_commit(checkout / "src" / "releve") is None
    vendored = checkout / "vendor" / "src" / "releve"
    shutil.copytree(checkout / "src" / "releve", vendored)
    commit_all(checkout)
    assert git_commit(vendored) is None
