"""The members of a run: what is trained for which fold, on which device; and the forests among them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from releve.data.gather import Gatherer
from releve.data.statistics import measure_statistics
from releve.errors import RunError
from releve.files import write_json
from releve.models.config import TABLES, ForestConfig, ModelConfig
from releve.models.forest import fit_forest
from releve.prepare.config import SplitConfig
from releve.store.read import Store
from releve.train.checkpoint import save_weights
from releve.train.config import TrainConfig
from releve.train.rows import fold_rows


@dataclass(frozen=True)
class Member:
    """One model of a run: the fold held out (None: nothing), its seed, and ``network`` or ``forest``."""

    index: int
    fold: int | None
    seed: int
    kind: str = "network"

    @property
    def name(self) -> str:
        """Folder name."""
        return f"member-{self.index:02d}"


def plan_members(config: TrainConfig, num_folds: int, seed: int) -> list[Member]:
    """Return the members of a run.

    Raises
    ------
    RunError
        If more folds are to be trained than the store has.

    Examples
    --------
    >>> config = TrainConfig(num_folds=2, seeds_per_fold=2, forests_per_fold=1)
    >>> [(m.fold, m.seed, m.kind) for m in plan_members(config, 5, seed=7)][:4]
    [(0, 7000, 'network'), (0, 7001, 'network'), (0, 7002, 'forest'), (1, 7003, 'network')]
    """
    if config.num_folds > num_folds:
        raise RunError(
            f"train.num_folds is {config.num_folds}",
            expected=f"at most the {num_folds} folds of the store",
            action="Lower train.num_folds, or prepare with a higher split.num_folds",
        )
    kinds = ["network"] * config.seeds_per_fold + ["forest"] * config.forests_per_fold
    folds: list[int | None] = [*range(config.num_folds), *([None] if config.refit else [])]
    pairs = [(fold, kind) for fold in folds for kind in kinds]
    return [Member(i, fold, 1000 * seed + i, kind) for i, (fold, kind) in enumerate(pairs)]


def train_forest(
    store: Store,
    member: Member,
    model_config: ModelConfig,
    config: ForestConfig,
    split: SplitConfig,
    folder: Path,
    *,
    resume: bool = False,
) -> None:
    """Grow one forest on the training rows of its fold and keep it in ``folder``.

    Parameters
    ----------
    store, member, split, folder, resume
        As for :func:`train_member`.
    model_config
        Its table modalities are what the forest sees.
    config
        The trees.
    """
    if resume and (folder / "member.json").is_file():
        return
    train_rows = fold_rows(store, member.fold, split).plots
    rng = np.random.default_rng(member.seed)
    tables = tuple(name for name in model_config.modalities if name in TABLES)
    statistics = measure_statistics(store, train_rows, tables or model_config.modalities, rng=rng)
    gatherer = Gatherer(store, statistics.modalities, statistics.categories)
    save_weights(folder, fit_forest(gatherer, train_rows, statistics, config, seed=member.seed))
    write_json(folder / "member.json", asdict(member))
