from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import Commands


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """The command line, in processes of its own."""
    commands = Commands(tmp_path_factory.mktemp("commands"))
    commands.run("--version")  # imports are done now, so that no test's clock counts them
    yield commands
    commands.close()


@pytest.fixture(scope="session")
def labelled_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GLC24 release of 240 plots with all modalities that folds can be made of; read it, do not change it."""
    from releases import write_labelled_release

    return write_labelled_release(tmp_path_factory.mktemp("labelled") / "release", num_train=240, num_test=20)
