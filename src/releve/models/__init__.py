"""One encoder per modality, a fusion that tolerates missing ones, a head for ten thousand species."""

from releve.models.config import ModelConfig
from releve.models.model import SpeciesModel, build_model

__all__ = ["ModelConfig", "SpeciesModel", "build_model"]
