"""The species model: encoders -> fusion -> head. Missing modalities are expected input."""

# B batch, P surveys of the batch that have a modality, M modalities, E embedding, S species

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from releve.data.batch import Batch
from releve.data.statistics import Statistics
from releve.errors import ConfigError, pick
from releve.models.config import Modality, ModelConfig
from releve.models.patches import PatchEncoder
from releve.models.series import SERIES_ENCODERS, zero_last_layer
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
            )
        case _:
            raise AssertionError(f"no encoder for {name}")


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

    def forward(self, batch: Batch) -> Tensor:
        """Return (B, S) logits."""
        embeddings, present = {}, {}
        for name in self.encoders:
            embeddings[name], present[name] = self._embed(name, batch)
        logits_BS = self.head(self.fusion(embeddings, present))
        records = batch.places.get("observation", logits_BS.new_zeros(0, dtype=torch.int64))
        if self.observation is not None and len(records):
            added_PS = self.observation(batch.values["observation"], batch)
            logits_BS = logits_BS.index_add(0, records, added_PS.to(logits_BS.dtype))
        if self.plot_head is not None and "survey" in batch.values and len(records) < len(batch):
            is_plot_B = torch.ones(len(batch), dtype=torch.bool, device=logits_BS.device).index_fill(0, records, False)
            plots = is_plot_B.nonzero().squeeze(1)  # also places to predict
            added_PS = self.plot_head(batch.values["survey"][plots], batch)
            logits_BS = logits_BS.index_add(0, plots, added_PS.to(logits_BS.dtype))
        return logits_BS

    def _embed(self, name: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return (B, E) embeddings of a modality, zero where a survey lacks it, and (B,) bool where it does not."""
        encoder = self.encoders[name]
        embedding_BE = self.head.weight.new_zeros(len(batch), int(encoder.num_features))  # type: ignore[arg-type]
        present_B = torch.zeros(len(batch), dtype=torch.bool, device=embedding_BE.device)
        places = batch.places.get(name)
        # Only surveys that have the modality are encoded: others would weigh in the batch norms' means. A batch norm
        # cannot be trained on one survey.
        if places is None or len(places) < (2 if self.training else 1):
            return embedding_BE, present_B
        encoded_PE = encoder(batch.values[name], batch.year[places], batch.month[places])
        return (
            embedding_BE.index_copy(0, places, encoded_PE.to(embedding_BE.dtype)),
            present_B.index_fill(0, places, True),
        )


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

    def forward(self, values_PK: Tensor, batch: Batch) -> Tensor:
        """Return (P, S) logits to add."""
        return self.head(self.encoder(values_PK, batch.year, batch.month))


def prevalence_logits(num_positives: list[int], num_rows: int) -> Tensor:
    """Return (S,) float64 logits of each species' share of the rows; finite where there are none."""
    return torch.logit((torch.tensor(num_positives, dtype=torch.float64) + 0.5) / (num_rows + 1.0))


def build_model(statistics: Statistics, config: ModelConfig, *, seed: int) -> SpeciesModel:
    """Return a new model, on the CPU, whose weights depend on the seed alone; global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = SpeciesModel(statistics, config)
    return model.to(memory_format=torch.channels_last)  # convolutions are a tenth faster, on a CPU too
