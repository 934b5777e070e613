"""How embeddings of several modalities become one, with some of them missing."""

# B batch, M modalities, E embedding

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from releve.errors import ConfigError
from releve.models.config import ModelConfig
from releve.models.series import zero_last_layer


class ResidualLayer(nn.Module):
    """x + MLP(norm(x))."""

    def __init__(self, width: int, dropout: float) -> None:
        """Make a layer that starts as the identity."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
        )
        zero_last_layer(self.layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width)."""
        return x + self.layers(x)


class ConcatFusion(nn.Module):
    """Embeddings side by side, with a learned vector in the place of a missing one; then residual layers."""

    def __init__(self, widths: dict[str, int], config: ModelConfig) -> None:
        """Build for modalities of these widths."""
        super().__init__()
        self.modality_dropout = config.modality_dropout
        self.norms = nn.ModuleDict({name: nn.LayerNorm(width) for name, width in widths.items()})
        self.missing = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name, width in widths.items()})
        self.project = nn.Sequential(
            nn.Linear(sum(widths.values()), config.hidden_dim), nn.SiLU(), nn.Dropout(config.dropout)
        )
        self.layers = nn.Sequential(
            *(ResidualLayer(config.hidden_dim, config.dropout) for _ in range(config.num_layers)),
            nn.LayerNorm(config.hidden_dim),
        )
        self.num_features = config.hidden_dim

    def forward(self, embeddings: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Return (B, hidden) from the embeddings of the modalities that are present in each row."""
        names = list(self.norms)
        present_BM = torch.stack([present[name] for name in names], dim=1)
        if self.training and self.modality_dropout > 0:
            present_BM = drop_modalities(present_BM, self.modality_dropout)
        parts = [
            torch.where(present_BM[:, i, None], self.norms[name](embeddings[name]), self.missing[name])
            for i, name in enumerate(names)
        ]
        return self.layers(self.project(torch.cat(parts, dim=1)))


class DirectFusion(nn.Module):
    """One modality, passed on as it is: with a patch, ResNet -> global average pooling -> fully connected."""

    def __init__(self, widths: dict[str, int], config: ModelConfig) -> None:
        """Build for a single modality."""
        super().__init__()
        if len(widths) != 1:
            raise ConfigError(
                f"model.fusion = 'direct' with modalities {list(widths)}",
                expected="one modality",
                action="Use fusion = 'concat' for several",
            )
        ((self.name, self.num_features),) = widths.items()

    def forward(self, embeddings: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Return (B, E), zero where the modality is missing, so that the head's bias (the prevalence) is left."""
        return embeddings[self.name]


FUSIONS: dict[str, Callable[[dict[str, int], ModelConfig], nn.Module]] = {
    "concat": ConcatFusion,
    "direct": DirectFusion,
}


def drop_modalities(present_BM: Tensor, rate: float) -> Tensor:
    """Return ``present`` with each modality hidden at the given rate, never the last one of a row."""
    keep = present_BM & (torch.rand(present_BM.shape, device=present_BM.device) >= rate)
    return torch.where(keep.any(dim=1, keepdim=True), keep, present_BM)
