"""Heads of the sources: what a row owes to how it was observed."""

# B batch, P rows of the batch from one source, K columns, D width

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from releve.data.batch import Batch
from releve.data.statistics import Statistics
from releve.models.config import ModelConfig
from releve.models.tables import TableEncoder


class ObservationHead(nn.Module):
    """What a row owes to how it was observed: logits that are added to those of the environment.

    Plots and presence-only rows share one response to the environment, and each source has a head of its own: of a
    plot, its area, date and place uncertainty; of presence-only rows, publisher, effort and access. The latter is left
    out when predicting. Had the shared part seen these, it would tell the sources apart by them and learn two
    responses; as it still can by an image or series that only one of the sources has.
    """

    def __init__(self, statistics: Statistics, config: ModelConfig, source: str) -> None:
        """Make a head that adds nothing yet; ``source`` is ``survey`` or ``observation``."""
        super().__init__()
        hidden = config.input_dropout if source == "survey" else 0.0
        self.encoder = TableEncoder(statistics.tables[source], config.observation_dim, config.dropout, hidden)
        self.head = nn.Linear(config.observation_dim, len(statistics.species_ids))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch, name: str, places: Tensor | None) -> Tensor:
        """Return (B, D + 1) features of the rows at these places, zero elsewhere; the last is 1, for the bias."""
        features_BD = self.head.weight.new_zeros(len(batch), self.head.in_features + 1)
        values = batch.values.get(name)
        if values is None or places is None:
            return features_BD
        values_PK = values if len(values) == len(places) else values.index_select(0, places)
        encoded_PD = functional.pad(self.encoder(values_PK, batch.year, batch.month), (0, 1), value=1.0)
        return features_BD.index_copy(0, places, encoded_PD.to(features_BD.dtype))
