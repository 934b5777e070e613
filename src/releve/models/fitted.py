"""Members that are nothing but the tensors that were fitted to the tables."""

from __future__ import annotations

from typing import Generic, TypeVar

from torch import Tensor, nn

from releve.data.statistics import Statistics

Features = TypeVar("Features")


class FittedModel(nn.Module, Generic[Features]):
    """A member made of what was fitted: the statistics of its training rows, the columns it sees, and tensors."""

    def __init__(self, statistics: Statistics, features: Features, tensors: dict[str, Tensor]) -> None:
        """Make a model of what was fitted, or of what was saved; tensors become attributes by their names."""
        super().__init__()
        self.statistics, self.modalities = statistics, tuple(statistics.tables)
        self.features = features
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
