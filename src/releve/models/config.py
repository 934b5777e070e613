"""What a network is made of."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Modality = Literal["covariates", "survey", "location", "landsat", "climate", "patch"]
TABLES: tuple[Modality, ...] = ("covariates", "survey", "location")
"""Modalities that are columns of numbers and categories, which trees and reference models see too."""


class ModelConfig(BaseModel):
    """The network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modalities: tuple[Modality, ...] = ("covariates", "survey", "location", "landsat", "climate", "patch")
    """What the model may look at; ``survey`` is plot area, location uncertainty, year, country and region."""
    fusion: Literal["concat", "direct"] = "concat"
    """``concat``: embeddings side by side, then residual layers; ``direct``: one modality straight to the head."""
    embedding_dim: int = Field(256, ge=8, le=4096)
    """Width of each modality's embedding."""
    hidden_dim: int = Field(512, ge=8, le=8192)
    """Width of the fused layers."""
    num_layers: int = Field(1, ge=0, le=8)
    """Residual layers after the fusion."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout in encoders and fusion."""
    input_dropout: float = Field(0.05, ge=0, lt=1)
    """Share of table columns hidden from each training row."""
    modality_dropout: float = Field(0.1, ge=0, lt=1)
    """Chance that a modality is hidden from a training row; at least one is always left."""
    location_waves: int = Field(3, ge=0, le=12)
    """Sine and cosine pairs of the location encoder; more waves see finer detail."""
    series_encoder: Literal["convolution", "years"] = "years"
    """How Landsat and climate series are encoded: ``years`` by two matrix products, a year at a time, then all years;
    ``convolution`` by a small residual network over years and seasons, at thirty times the cost."""
    series_width: int = Field(32, ge=4, le=512)
    """Channels of the first layer of the series encoders."""
    years_back: int = Field(20, ge=1, le=60)
    """Years of a series that the model sees, counted back from the survey."""
    patch_backbone: str = "resnet18"
    """Any convolutional network of timm."""
    patch_bands: int | None = Field(None, ge=1)
    """Bands of the patch to use: 3 for RGB, 4 for RGB + NIR; all by default."""
    patch_pool: int = Field(1, ge=1, le=16)
    """Average this many pixels a side before the network; 1 keeps the full resolution."""
    patch_views: Literal[1, 8] = 1
    """8: predictions see a patch under all turns and mirrors and take the mean, at eight times the cost."""
    patch_checkpointing: bool = False
    """Work out the backbone's activations again for the gradients instead of keeping them: for backbones, patches or
    batches too large for a GPU's memory, at the cost of a second forward pass."""
    pretrained: str | None = None
    """Weights of the backbone: a local file, or ``hub``."""
    observation_dim: int = Field(32, ge=1, le=512)
    """Width of the observation head, which explains presence-only rows by publisher, effort and access."""


class ForestConfig(BaseModel):
    """The trees; they see the table modalities (covariates, survey, location)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_trees: int = Field(200, ge=1, le=5000)
    """Trees of a forest."""
    min_rows: int = Field(3, ge=1)
    """Fewest training rows of a leaf."""
    feature_share: float = Field(0.5, gt=0, le=1)
    """Share of the features tried at each split."""
    num_components: int = Field(64, ge=1)
    """Leading components of the labels that the splits are chosen on."""
