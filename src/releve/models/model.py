"""The species model: encoders -> fusion -> head. Missing modalities are expected input."""

# B batch, P surveys of the batch that have a modality, K columns, M modalities, E embedding, D width, S species

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from releve.data.gather import Batch
from releve.data.statistics import Statistics
from releve.errors import ConfigError, pick
from releve.models.config import ModelConfig
from releve.models.encoders import build_encoder
from releve.models.fusion import FUSIONS
from releve.models.tables import TableEncoder


class SpeciesModel(nn.Module):
    """Logits of the presence of every species in a survey.

    A row in which every modality is missing gets the fusion's answer to nothing known, close to the prevalences.
    """

    def __init__(self, statistics: Statistics, config: ModelConfig) -> None:
        """Build from the statistics of the training rows.

        Raises
        ------
        ConfigError
            If none of the wanted modalities was measured.
        """
        super().__init__()
        self.statistics, self.config = statistics, config
        self.modalities = tuple(name for name in config.modalities if name in statistics.modalities)
        if not self.modalities:
            raise ConfigError(
                f"model.modalities = {list(config.modalities)}",
                expected=f"one of the stored {statistics.modalities}",
            )
        observed = "observation" in statistics.tables
        fused = [name for name in self.modalities if name != "survey" or not observed or self.modalities == ("survey",)]
        self.encoders = nn.ModuleDict({name: build_encoder(statistics, config, name) for name in fused})
        widths = {name: int(encoder.num_features) for name, encoder in self.encoders.items()}  # type: ignore[arg-type]
        self.fusion = pick(FUSIONS, config.fusion, what="fusion")(widths, config)
        self.head = nn.Linear(int(self.fusion.num_features), len(statistics.species_ids))  # type: ignore[arg-type]
        self.observation = ObservationHead(statistics, config, "observation") if observed else None
        apart = observed and "survey" in self.modalities and "survey" not in fused
        self.plot_head = ObservationHead(statistics, config, "survey") if apart else None
        self._start_at_prevalence()

    def _start_at_prevalence(self) -> None:
        """Set the head so that an untrained model predicts each species' share of the training rows."""
        logits_S = prevalence_logits(self.statistics.num_positives, self.statistics.num_rows)
        with torch.no_grad():
            self.head.bias.copy_(logits_S)
            self.head.weight.mul_(0.1)
            if self.observation is not None and self.statistics.num_records:
                records_S = prevalence_logits(self.statistics.record_positives, self.statistics.num_records)
                self.observation.head.bias.copy_(records_S - logits_S)

    def forward(self, batch: Batch, known: Mapping[str, tuple[Tensor, Tensor]] | None = None) -> Tensor:
        """Return (B, S) float32 logits; ``known`` as of :meth:`features`."""
        weight_SF, bias_S = self.species_weights()
        # The bias is added in float32: under autocast, bf16 could not tell rare species apart.
        return functional.linear(self.features(batch, known), weight_SF).float() + bias_S

    def features(self, batch: Batch, known: Mapping[str, tuple[Tensor, Tensor]] | None = None) -> Tensor:
        """Return (B, F) features, of which logits are a linear function; see :meth:`species_weights`.

        After those of the environment come those of how a row was observed, zero in rows of another source.

        Parameters
        ----------
        batch
            The surveys.
        known
            What :meth:`embed` has made of some modalities of the same surveys, so that they are not encoded again.
        """
        embeddings, present = {}, {}
        for name in self.encoders:
            embeddings[name], present[name] = known[name] if known and name in known else self.embed(name, batch)
        parts = [self.fusion(embeddings, present)]
        if self.observation is not None:
            parts.append(self.observation(batch, "observation", batch.places.get("observation")))
        if self.plot_head is not None:
            parts.append(self.plot_head(batch, "survey", batch.places.get("plots")))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def species_weights(self) -> tuple[Tensor, Tensor]:
        """Return (S, F) and (S,): what of each species' logit every feature counts for, and what is there without."""
        parts = [self.head.weight]
        for head in (self.observation, self.plot_head):
            if head is not None:
                parts += [head.head.weight, head.head.bias[:, None]]
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0], self.head.bias

    def embed(self, name: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return (B, E) embeddings of a modality, zero where a survey lacks it, and (B,) bool where it does not."""
        encoder, device = self.encoders[name], self.head.weight.device
        places = batch.places.get(name)
        # Only surveys that have the modality are encoded: others would weigh in the batch norms' means, which cannot
        # be trained on one survey. With several processes the number is that of all: they must do the same.
        used = places is not None and batch.count(name) >= (2 if self.training else 1)
        if used and places is not None and len(places) == len(batch):
            encoded_BE = encoder(batch.values[name], batch.year, batch.month)
            return encoded_BE.float(), torch.ones(len(batch), dtype=torch.bool, device=device)
        embedding_BE = torch.zeros(len(batch), int(encoder.num_features), device=device)  # type: ignore[arg-type]
        present_B = torch.zeros(len(batch), dtype=torch.bool, device=device)
        if not used or places is None:
            return embedding_BE, present_B
        encoded_PE = encoder(batch.values[name], batch.year[places], batch.month[places])
        return embedding_BE.index_copy(0, places, encoded_PE.float()), present_B.index_fill(0, places, True)


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


def prevalence_logits(num_positives: list[int], num_rows: int) -> Tensor:
    """Return (S,) float64 logits of each species' share of the rows; finite where there are none."""
    return torch.logit((torch.tensor(num_positives, dtype=torch.float64) + 0.5) / (num_rows + 1.0))


def build_model(statistics: Statistics, config: ModelConfig, *, seed: int) -> SpeciesModel:
    """Return a new model, on the CPU, whose weights depend on the seed alone; global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = SpeciesModel(statistics, config)
    return model.to(memory_format=torch.channels_last)  # convolutions are a tenth faster, on a CPU too
