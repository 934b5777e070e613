"""The encoder of image patches: any timm network with any number of bands."""

# B batch, C channels, H W pixels, E embedding

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from releve.data.statistics import ArrayStatistics
from releve.errors import ConfigError


class PatchEncoder(nn.Module):
    """Normalise, pool if asked, augment in training, and run a convolutional network with global average pooling."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        statistics: ArrayStatistics,
        *,
        backbone: str = "resnet18",
        num_bands: int | None = None,
        pretrained: str | None = None,
        pool: int = 1,
        views: int = 1,
        checkpointing: bool = False,
    ) -> None:
        """Build the network.

        Parameters
        ----------
        statistics
            Shape, fill, mean and standard deviation of the training rows.
        backbone
            Any convolutional model name of timm.
        num_bands
            The first bands to use (3: red, green, blue); all by default.
        pretrained
            None, ``"hub"`` for timm's own download, or the path of a local .safetensors or .pth file. The first
            convolution is adapted to the number of bands (3-band weights are repeated and rescaled, as timm does).
        pool
            Average this many pixels a side first.
        views
            1, or 8: when not training, the mean of the features of all turns and mirrors.
        checkpointing
            Work out activations again in the backward pass instead of keeping them.

        Raises
        ------
        ConfigError
            If timm does not know the backbone, the weights' file cannot be used, or the backbone keeps its activations.
        """
        super().__init__()
        self.num_bands = num_bands or statistics.shape[0]
        if self.num_bands > statistics.shape[0]:
            raise ConfigError(
                f"model.patch_bands is {self.num_bands}",
                expected=f"at most the {statistics.shape[0]} stored bands",
            )
        self.fill, self.pool, self.views = statistics.fill, pool, views
        self.register_buffer("mean", torch.tensor(statistics.mean[: self.num_bands])[:, None, None])
        self.register_buffer("std", torch.tensor(statistics.std[: self.num_bands])[:, None, None])
        self.network = make_backbone(backbone, self.num_bands, pretrained)
        if checkpointing:
            switch = getattr(self.network, "set_grad_checkpointing", None)
            if switch is None:
                raise ConfigError(f"model.patch_checkpointing: timm's {backbone} has none", action="Set it to false")
            switch()
        self.num_features = int(self.network.num_features)  # type: ignore[arg-type]

    def forward(self, values_BCHW: Tensor, year_B: Tensor, month_B: Tensor) -> Tensor:
        """Return (B, E) features of raw patches; the date is not used."""
        raw = values_BCHW[:, : self.num_bands]
        patch = (raw.to(self.mean.dtype) - self.mean) / self.std
        if self.fill is not None:
            patch = torch.where(raw == self.fill, 0.0, patch)
        if self.pool > 1:
            patch = functional.avg_pool2d(patch, self.pool)
        patch = patch.contiguous(memory_format=torch.channels_last)
        if self.training:
            return self.network(turn(patch))
        features = self.network(patch)
        for kind in range(1, self.views):
            features = features + self.network(view(patch, kind))
        return features / self.views


def turn(patch_BCHW: Tensor) -> Tensor:
    """Return the patches under one of the eight turns and mirrors of the square, drawn for each eighth of the batch.

    A satellite looks straight down, so a patch has no upper side.
    """
    parts = patch_BCHW.chunk(8)
    turned = []
    for part, kind in zip(parts, torch.randperm(8)[: len(parts)].tolist(), strict=True):
        turned.append(view(part, kind))
    return torch.cat(turned)


def view(patch_BCHW: Tensor, kind: int) -> Tensor:
    """Return the patches under one of the eight turns and mirrors of the square, 0 to 7; 0 is as they are."""
    patch_BCHW = torch.rot90(patch_BCHW, kind % 4, dims=(2, 3))
    return patch_BCHW.flip(3) if kind >= 4 else patch_BCHW


def make_backbone(name: str, num_bands: int, pretrained: str | None) -> nn.Module:
    """Return a timm network that ends in global average pooling.

    Raises
    ------
    ConfigError
        If timm does not know the name, or the weights cannot be had or do not fit.
    """
    import timm  # with torchvision, seconds that only patches are worth

    if not timm.is_model(name):
        close = timm.list_models(f"{name[:6]}*")[:5]
        raise ConfigError(f"timm has no model {name!r}", expected=f"a timm model name, such as {close or 'resnet18'}")
    if pretrained is None:
        return timm.create_model(name, in_chans=num_bands, num_classes=0, global_pool="avg")
    if pretrained == "hub":
        try:
            return timm.create_model(name, pretrained=True, in_chans=num_bands, num_classes=0, global_pool="avg")
        except (OSError, RuntimeError) as error:
            raise ConfigError(
                f"timm has no weights of {name} to download: {str(error).splitlines()[0]}",
                action="Give model.pretrained a local .safetensors or .pth file",
            ) from error
    file = Path(pretrained)
    if not file.is_file():
        raise ConfigError(f"no weights at {file}", expected="a .safetensors or .pth file, or 'hub'")
    network = timm.create_model(name, in_chans=num_bands, num_classes=0, global_pool="avg")
    weights = adapt_first_layer(read_weights(file), network)
    try:
        missing, _ = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ConfigError(f"{file} does not fit {name}: {str(error).splitlines()[-1].strip()}") from error
    if missing:
        raise ConfigError(f"{file} lacks {len(missing)} tensors of {name}, such as {missing[:3]}")
    return network


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file, or of a .pth file that holds nothing but tensors."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise ConfigError(
            f"{file} cannot be read: {(str(error) or repr(error)).splitlines()[0]}",
            expected="a .safetensors or .pth file of tensors",
        ) from error
    if not isinstance(weights, dict):
        raise ConfigError(f"{file} holds a {type(weights).__name__}", expected="tensors by name")
    return weights.get("state_dict", weights)


def adapt_first_layer(weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return the weights with the first convolution spread over the network's number of bands, the sum kept."""
    first = next(name for name, tensor in network.state_dict().items() if tensor.ndim == 4)
    wanted = network.state_dict()[first].shape[1]
    if first not in weights or weights[first].shape[1] == wanted:
        return weights
    kernel = weights[first]
    repeats = -(-wanted // kernel.shape[1])
    spread = kernel.repeat(1, repeats, 1, 1)[:, :wanted] * (kernel.shape[1] / wanted)
    return {**weights, first: spread}
