"""The members of a run: what is trained for which fold; and those that are fitted to the tables in one go."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from releve.config import Config
from releve.data.gather import Gatherer
from releve.data.statistics import Statistics, measure_statistics
from releve.errors import ConfigError, RunError, StoreError
from releve.files import write_json
from releve.models.config import TABLES
from releve.models.kinds import TABLE_KINDS, why_not
from releve.progress import say
from releve.store.read import Store
from releve.train.checkpoint import save_weights
from releve.train.rows import fold_rows


@dataclass(frozen=True)
class Member:
    """One model of a run: the fold held out (None: nothing), its seed and its kind."""

    index: int
    fold: int | None
    seed: int
    kind: str = "network"

    @property
    def name(self) -> str:
        """Folder name."""
        return f"member-{self.index:02d}"


def plan_members(config: Config, store: Store, seed: int) -> list[Member]:
    """Return the members of a run; a kind that cannot learn anything from the training rows is left out, and said.

    Raises
    ------
    RunError
        If more folds are to be trained than the store has.
    ConfigError
        If every kind is left out.
    """
    train, num_folds = config.train, store.manifest.num_folds
    if train.num_folds > num_folds:
        raise RunError(
            f"train.num_folds is {train.num_folds}",
            expected=f"at most the {num_folds} folds of the store",
            action="Lower train.num_folds, or prepare with a higher split.num_folds",
        )
    kinds = list(train.kinds)
    of_tables = [kind for kind in dict.fromkeys(kinds) if kind in TABLE_KINDS]
    if of_tables and (reason := _why_not(config, store)):
        kinds = [kind for kind in kinds if kind not in TABLE_KINDS]
        if not kinds:
            raise ConfigError(f"train.kinds is {of_tables}, and {reason}", action="Add 'network' to train.kinds")
        say(f"{' and '.join(of_tables)} left out of train.kinds: {reason}")
    folds: list[int | None] = [*range(train.num_folds), *([None] if train.refit else [])]
    pairs = [(fold, kind) for fold in folds for kind in kinds]
    return [Member(i, fold, 1000 * seed + i, kind) for i, (fold, kind) in enumerate(pairs)]


def _why_not(config: Config, store: Store) -> str:
    """Return why the tables of some fold's training rows teach nothing; nothing if they do."""
    for fold in range(config.train.num_folds):
        rows = table_rows(store, fold, config)
        try:
            gatherer, statistics = look_at_tables(store, rows, config, seed=0)
        except StoreError:
            return "the model looks at no table that has a value"
        if reason := why_not(gatherer, rows, statistics):
            return f"with fold {fold} held out, {reason}"
    return ""


def table_rows(store: Store, fold: int | None, config: Config) -> NDArray[np.int64]:
    """Return the rows that kinds of ``TABLE_KINDS`` are fitted to: the plots; of regime ``po``, the records' places.

    There the silence of a place is taken for absence, as a target group does it (Phillips et al. 2009).
    """
    rows = fold_rows(store, fold, config.split, config.train.regime)
    return rows.records if config.train.regime == "po" else rows.plots


def look_at_tables(store: Store, rows: NDArray[np.int64], config: Config, *, seed: int) -> tuple[Gatherer, Statistics]:
    """Return what gathers the tables that the model looks at, and the statistics of these rows.

    Of a target group, random places are not measured: what lies beyond the recorded range is held at its ends.

    Raises
    ------
    StoreError
        If the rows have a value of none of them.
    """
    tables = tuple(name for name in config.model.modalities if name in TABLES)
    measured = rows[~store.is_random[rows]] if store.is_target_group else rows
    statistics = measure_statistics(store, measured, tables, rng=np.random.default_rng(seed))
    return Gatherer(store, statistics.modalities, statistics.categories), statistics


def fit_member(store: Store, member: Member, config: Config, folder: Path, *, resume: bool = False) -> None:
    """Fit one member of a kind of ``TABLE_KINDS`` to the rows outside its fold, and keep it in ``folder``.

    Parameters
    ----------
    store, member
        Labelled rows with folds; the fold, the kind and the seed.
    config
        The recipe.
    folder
        Gets ``weights.safetensors``, ``statistics.json``, and ``member.json`` when all is done.
    resume
        Leave a member that is done as it is.
    """
    if resume and (folder / "member.json").is_file():
        return
    rows = table_rows(store, member.fold, config)
    gatherer, statistics = look_at_tables(store, rows, config, seed=member.seed)
    save_weights(folder, TABLE_KINDS[member.kind].fit(gatherer, rows, statistics, config, member.seed))
    write_json(folder / "member.json", asdict(member))
