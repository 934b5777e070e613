"""What ``releve train`` makes of a region: the network of regime ``po``, as recipes/po.toml has it, on its tables."""

# N sites, S species

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import torch

from releve.config import Config, make_config
from releve.data.gather import Gatherer
from releve.nceas.data import Region, Sites
from releve.store.read import Store
from releve.train.checkpoint import load_member
from releve.train.device import choose_device
from releve.train.loop import train_member
from releve.train.members import Member
from releve.train.validate import predict_logits

KM_A_DEGREE = 111.195
RECIPE: dict[str, dict[str, Any]] = {
    "data": {"records": "po", "modalities": ["covariates"]},
    "model": {"embedding_dim": 256, "hidden_dim": 1024, "num_layers": 2, "dropout": 0.2},
    "records": {"loss": "trusted_bce", "background": "target_group", "observation_head": False},
    "train": {
        "regime": "po",
        "epochs": 20,
        "batch_size": 256,
        "learning_rate": 1e-3,
        "weight_decay": 0.05,
        "ema_decay": 0.999,
    },
}
"""Network, loss and training of recipes/po.toml; a test compares the two."""


def predict_po(
    region: Region, seed: int, *, with_place: bool = True, advance: Callable[[], None] = lambda: None
) -> list[np.ndarray]:
    """Return one (plots, species) table of logits for each test set of a region.

    A network is trained for each survey group on the sites of the group, all of them, to the recipe's last epoch: what
    a group recorded says nothing of the species of another.

    Parameters
    ----------
    with_place
        Whether the network looks at coordinates.
    advance
        Called at the end.
    """
    modalities = ["covariates", "location"] if with_place else ["covariates"]
    config = make_config(RECIPE | {"model": RECIPE["model"] | {"modalities": modalities}}, origin="nceas")
    total = [np.zeros((len(test.sites), len(region.species))) for test in region.tests]
    for group in range(len(region.groups)):
        species = np.flatnonzero(region.species_group == group)
        sites = region.keep(region.site_group == group)
        store = make_store(region, sites.sites, sites.found_NS)
        for scores_NS, logits_NS in zip(total, _train_and_predict(store, region, config, seed), strict=True):
            scores_NS[:, species] = logits_NS[:, species]
    advance()
    return total


def _train_and_predict(store: Store, region: Region, config: Config, seed: int) -> list[np.ndarray]:
    """Return (plots, species) logits of each test set; species that the store does not know are 0."""
    device = choose_device(config.train.device)
    with TemporaryDirectory() as name:
        folder, member = Path(name), Member(0, None, seed)
        options = {"records": config.records, "stop_after": config.train.epochs}
        train_member(store, member, config.model, config.train, config.split, folder, **options)  # type: ignore[arg-type]
        model = load_member(folder, config.model, device)
    tables = []
    for test in region.tests:
        plots = make_store(region, test.sites, None)
        gatherer = Gatherer(plots, model.modalities, model.statistics.categories)
        scores_NS = np.zeros((len(plots), len(region.species)))
        logits = torch.cat(list(predict_logits(model, gatherer, np.arange(len(plots)), device)))
        scores_NS[:, np.array(model.statistics.species_ids)] = logits.float().cpu().numpy()
        tables.append(scores_NS)
    return tables


def make_store(region: Region, sites: Sites, found_NS: np.ndarray | None) -> Store:
    """Return a store of sites: presence-only rows where it is known what was found, else plots yet to be visited.

    Kilometres are written as degrees at the equator: the network reads them as two numbers.
    """
    place = sites.xy_km / KM_A_DEGREE
    surveys = pl.DataFrame(
        {
            "survey_id": np.arange(len(sites)),
            "lon": place[:, 0],
            "lat": place[:, 1],
            "split": ["test" if found_NS is None else "po"] * len(sites),
        }
    )
    columns = dict(zip(region.covariates, sites.continuous_NC.T, strict=True))
    columns |= {f"{name} (code)": codes for name, codes in zip(region.categorical, sites.codes_NK.T, strict=True)}
    labels = None
    if found_NS is not None:
        rows, species = np.nonzero(found_NS)
        labels = pl.DataFrame({"row": rows, "species_id": species})
    categorical = tuple(f"{name} (code)" for name in region.categorical)
    covariates = pl.DataFrame(columns)
    return Store.from_tables(surveys, labels, covariates, categorical=categorical, records="po", origin=region.name)
