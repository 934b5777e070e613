"""How a run is trained: on which rows, with which loss, for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainConfig(BaseModel):
    """How a model is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    regime: Regime = "pa"
    """``pa``: plots; ``po``: presence-only rows; ``presence``: both at once; ``classes``: presence-only, then plots."""
    loss: Literal["bce", "full_weighted", "asymmetric"] = "bce"
    """Loss of the plots: a name in ``releve.train.losses.LOSSES``."""
    class_weight: float = Field(0.0, ge=0, le=1)
    """Presences weigh more where a species is rare: its share of the plots to the power of minus this, mean 1."""
    num_folds: int = Field(1, ge=1)
    """Folds that are held out in turn, each from members of its own; all members' predictions are averaged."""
    kinds: tuple[Kind, ...] = Field(("network",), min_length=1)
    """Kinds of member trained for each fold: ``network``, and of the tables ``forest``, ``booster`` (boosted trees) and
    ``hinge`` (hinge regression, the family of MaxEnt), which learn from plots, or from records where there is nothing
    else, and ``softmax``, a small network of records alone. A kind that is named twice gets two members with seeds of
    their own."""
    refit: bool = False
    """Then train as many more members of each kind on all rows, nothing held out, for the folds' mean best epochs."""
    selection_share: float = Field(0.1, ge=0, le=0.5)
    """Share of the rows outside the held-out fold, as whole blocks, that the epoch is selected on rather than trained
    on, so that the held-out score is not flattered; 0 keeps the last epoch."""
    epochs: int = Field(20, ge=1)
    """Passes over the training rows; the cosine schedule ends with the last one."""
    patience: int = Field(6, ge=1)
    """Epochs without a better sF1 of the selection rows after which training stops."""
    batch_size: int = Field(128, ge=2)
    """Surveys a step, whatever the number of processes."""
    accumulate: int = Field(1, ge=1)
    """Parts that a step's rows are gone through in, one after the other, where they do not fit in memory together.
    Batch norms (of series by convolution, and of patches) see one part at a time."""
    learning_rate: float = Field(1e-3, gt=0)
    """Highest learning rate of AdamW."""
    weight_decay: float = Field(1e-2, ge=0)
    """Decoupled weight decay of matrices; vectors have none."""
    warmup: float = Field(0.1, ge=0, le=0.9)
    """Share of the steps in which the learning rate rises linearly."""
    gradient_clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    ema_decay: float = Field(0.99, ge=0, lt=1)
    """Decay of the average of the weights, which is what is validated and kept; 0 keeps the last weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``auto``: bf16 on a GPU, fp32 on a CPU."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""


Regime = Literal["pa", "po", "presence", "classes"]
Kind = Literal["network", "forest", "booster", "hinge", "softmax"]


class RecordsConfig(BaseModel):
    """How presence-only rows are learned from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: Literal["bce", "trusted_bce", "an_full", "full_weighted", "deep_maxent", "asymmetric"] = "trusted_bce"
    """Name of a loss in ``releve.train.losses.LOSSES``."""
    background: Literal["target_group", "mixed", "random"] = "target_group"
    """Where silence is taken from. ``target_group``: the presence-only rows themselves, which lie where people look for
    plants; ``random``: rows drawn evenly over the map, one 25 km cell as often as another; ``mixed``: half of each."""
    trust: Literal["richness", "coverage"] = "richness"
    """How far ``trusted_bce`` believes silence. ``richness``: the species found there as a share of those expected on a
    plot, so that every row calls for about the same number of species, however little was recorded; ``coverage``: the
    pseudo-plot's own estimate (see docs/pseudoplots.md), 0 for a single visit."""
    weight: float = Field(5.0, gt=0, le=100)
    """Weight of the presence-only loss beside that of the plots (regime ``presence``)."""
    rows_per_plot: float = Field(6.0, gt=0, le=100)
    """Presence-only rows in a step for each plot (regime ``presence``)."""
    thinning: float = Field(0.5, ge=0, le=1)
    """A row is drawn with the number of rows in its 10 km cell to the power of minus this: 0 as recorded, 1 evenly."""
    observation_head: bool = True
    """Explain presence-only rows by publisher, effort and access too, and leave that out when predicting."""
    pretrain_epochs: int = Field(10, ge=1)
    """Epochs on presence-only rows before the plots (regime ``classes``)."""


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs that see the same kinds of rows; only the last phase's epochs are candidates to be kept."""

    epochs: int
    plots: bool
    records: bool


def plan_phases(regime: Regime, epochs: int, pretrain_epochs: int) -> list[Phase]:
    """Return the phases of a regime.

    Examples
    --------
    >>> plan_phases("classes", 10, 5)
    [Phase(epochs=5, plots=False, records=True), Phase(epochs=10, plots=True, records=False)]
    """
    last = Phase(epochs, plots=regime != "po", records=regime in ("po", "presence"))
    return [Phase(pretrain_epochs, plots=False, records=True), last] if regime == "classes" else [last]
