"""Which pixels of a patch and which steps of a series a prediction of one plot rests on: integrated gradients."""

# C channels, H W pixels, Y years, Q seasons, P surveys that have a modality (here one), S species

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from releve.data.gather import Batch
from releve.data.statistics import ArrayStatistics
from releve.errors import RunError, nearest
from releve.explain.subjects import Subject
from releve.models.model import SpeciesModel
from releve.runs.folder import Run
from releve.runs.predict import gatherer_for, models_of
from releve.store.read import Store

NUM_STEPS = 32
SERIES_AND_PATCHES = ("landsat", "climate", "patch")


@dataclass(frozen=True, eq=False)
class Saliency:
    """What one modality of a plot adds to the score of a subject.

    Parameters
    ----------
    modality
        ``patch``, ``landsat`` or ``climate``.
    channels
        Names of the channels.
    raw
        (C, H, W) or (C, Y, Q) what the plot's patch or series is, as float; NaN where missing.
    share
        Of the same shape: what each value adds to the score, beside a plot with the training mean everywhere.
    first_year
        Calendar year of the first step of a series.
    """

    modality: str
    channels: tuple[str, ...]
    raw: NDArray[np.float64]
    share: NDArray[np.float64]
    first_year: int | None = None


def find_plot(store: Store, survey_id: str) -> int:
    """Return the position of a survey in a store.

    Raises
    ------
    RunError
        If there is none of that id; the message offers the nearest.
    """
    ids = [str(each) for each in store.surveys["survey_id"].to_list()]
    if survey_id not in ids:
        close = nearest(survey_id, ids)
        close = close if close.startswith("did") else f"such as {', '.join(ids[:3])}"
        raise RunError(
            f"the store of the run has no survey {survey_id!r}", expected=f"one of {len(ids):,}", action=close
        )
    return ids.index(survey_id)


def measure_saliency(
    run: Run, store: Store, row: int, subject: Subject, *, num_steps: int = NUM_STEPS
) -> list[Saliency]:
    """Return what each value of a plot's patch and series adds to the networks' score of a species.

    The score is the logit of the species, or the log of the expected number of species, mean over the run's networks
    (trees see neither patches nor series). Beside it stands the score of the same plot with the training mean of each
    channel everywhere; the difference is shared out by integrated gradients, so that the shares add up to it.
    Missing values and steps after the survey's date have a share of 0.

    Parameters
    ----------
    run
        A trained run with networks.
    store, row
        The plot.
    subject
        Column of a species; None for the community.
    num_steps
        Points on the way from the mean to the plot.

    Raises
    ------
    RunError
        If no network looks at patches or series, or the plot has none.

    References
    ----------
    Sundararajan, Taly & Yan (2017), Axiomatic attribution for deep networks, ICML, arXiv:1703.01365.
    """
    networks = [model for models in models_of(run).values() for model in models if isinstance(model, SpeciesModel)]
    shares: dict[str, list[Tensor]] = {}
    raw: dict[str, tuple[Tensor, ArrayStatistics]] = {}
    for model in networks:
        batch = gatherer_for(model, store).batch(np.array([row])).to(run.device)
        for name in (name for name in SERIES_AND_PATCHES if name in model.encoders and name in batch.values):
            if len(batch.places[name]):
                known = model.statistics.arrays[name]
                share, values = integrated_gradients(model, batch, name, subject, num_steps)
                shares.setdefault(name, []).append(share)
                raw[name] = (values, known)
    if not shares:
        looked = sorted({name for model in networks for name in model.encoders})
        raise RunError(
            f"there is nothing to show of survey {store.surveys['survey_id'][row]}: networks look at {looked}",
            expected="a network that looks at patches or series, and a survey that has them",
        )
    return [
        Saliency(
            modality=name,
            channels=raw[name][1].channels or tuple(f"channel {i + 1}" for i in range(len(parts[0]))),
            raw=raw[name][0].double().cpu().numpy(),
            share=(sum(parts[1:], parts[0]) / len(networks)).double().cpu().numpy(),
            first_year=raw[name][1].first_year,
        )
        for name, parts in shares.items()
    ]


def integrated_gradients(
    model: SpeciesModel, batch: Batch, name: str, subject: Subject, num_steps: int = NUM_STEPS
) -> tuple[Tensor, Tensor]:
    """Return the share of each value of one plot's modality in the score, and the values, NaN where missing.

    The gradient of the score is averaged over points half a step apart from the ends of the straight line from the
    training mean to the plot, and multiplied by the difference; missing values are missing all along.
    """
    known = model.statistics.arrays[name]
    values = batch.values[name].float()
    mean = torch.tensor(known.mean, device=values.device).reshape(1, -1, 1, 1)[:, : values.shape[1]].expand_as(values)
    missing = values == known.fill if known.fill is not None else torch.zeros_like(values, dtype=torch.bool)
    start = torch.where(missing, values, mean)
    total = torch.zeros_like(values)
    for weight in (torch.arange(num_steps) + 0.5) / num_steps:
        point = (start + weight * (values - start)).detach().requires_grad_(True)
        asked = Batch({**batch.values, name: point}, batch.places, batch.year, batch.month, batch.counts)
        total += torch.autograd.grad(score_of(model(asked), subject), point)[0]
    share = (values - start) * total / num_steps
    return share[0].detach(), torch.where(missing, torch.nan, values)[0]


def score_of(logits_BS: Tensor, subject: Subject) -> Tensor:
    """Return the logit of a species, or the log of the expected number of species, summed over rows."""
    return (logits_BS.sigmoid().sum(dim=1).log() if subject is None else logits_BS[:, subject]).sum()


def strongest(saliencies: Sequence[Saliency]) -> list[tuple[str, str, float]]:
    """Return modality, channel and the sum of the channel's shares, the largest first, either way.

    Examples
    --------
    >>> strongest([Saliency("patch", ("red", "nir"), np.zeros((2, 1, 2)), np.array([[[0.5, -0.25]], [[-1.0, 0.5]]]))])
    [('patch', 'nir', -0.5), ('patch', 'red', 0.25)]
    """
    sums = [
        (each.modality, channel, float(part.sum()))
        for each in saliencies
        for channel, part in zip(each.channels, each.share, strict=False)
    ]
    return sorted(sums, key=lambda row: -abs(row[2]))
