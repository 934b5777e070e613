"""One encoder a modality, by its name."""

# P surveys that have the modality

from __future__ import annotations

from torch import nn

from releve.data.statistics import Statistics
from releve.errors import pick
from releve.models.config import Modality, ModelConfig
from releve.models.patches import PatchEncoder
from releve.models.series import SERIES_ENCODERS
from releve.models.tables import LocationEncoder, TableEncoder


def build_encoder(statistics: Statistics, config: ModelConfig, name: Modality) -> nn.Module:
    """Return the encoder of a modality: ``encoder(values, year, month) -> (P, num_features)``."""
    width = config.embedding_dim
    match name:
        case "covariates" | "survey":
            return TableEncoder(statistics.tables[name], width, config.dropout, config.input_dropout)
        case "location":
            return LocationEncoder(statistics.tables[name], width, config.dropout, config.location_waves)
        case "landsat" | "climate":
            make = pick(SERIES_ENCODERS, config.series_encoder, what="series encoder")
            return make(statistics.arrays[name], width, config.series_width, config.years_back)
        case "patch":
            return PatchEncoder(
                statistics.arrays[name],
                backbone=config.patch_backbone,
                num_bands=config.patch_bands,
                pretrained=config.pretrained,
                pool=config.patch_pool,
                views=config.patch_views,
                checkpointing=config.patch_checkpointing,
            )
        case _:
            raise AssertionError(f"no encoder for {name}")
