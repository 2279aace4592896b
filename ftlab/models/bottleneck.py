"""Bottleneck adapters: small trained layers between the frozen layers of a decoder.

Houlsby et al. 2019 (Parameter-Efficient Transfer Learning for NLP, arXiv 1902.00751) put one after attention and one
after the feed-forward part of every layer, each applied to the sublayer's output before it is added to the residual
stream: h -> h + W_up f(W_down h). Pfeiffer et al. 2020 (MAD-X, arXiv 2005.00052) keep only the one after the
feed-forward part. There the adapter reads the normalized sum of a post-norm encoder; decoders normalize before a
sublayer, so here it reads the feed-forward output itself.

The adapters are plain modules around the sublayers, not hooks, so that gradient checkpointing, the cache and
`generate` of transformers see an ordinary model.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ftlab.config import MethodConfig
from ftlab.errors import FtlabError, InputError

PEFT_TYPE = "FTLAB_BOTTLENECK"
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

_ATTENTION = ("self_attn", "attn", "attention", "self_attention")
_FEED_FORWARD = ("mlp", "feed_forward", "ffn", "block_sparse_moe")
_ACTIVATIONS = {"relu": torch.nn.ReLU, "gelu": torch.nn.GELU, "silu": torch.nn.SiLU}
_README = """# Bottleneck adapter

Base: {base}. Placement: {placement}, reduction factor {reduction_factor}, activation {activation}
(Houlsby et al. 2019, Pfeiffer et al. 2020). PEFT has no such adapters; ftlab adds them to the base:

    from pathlib import Path
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from ftlab.models.bottleneck import load_bottlenecks

    model = AutoModelForCausalLM.from_pretrained({base!r})
    load_bottlenecks(model, Path("."))
    tokenizer = AutoTokenizer.from_pretrained(".")
"""


@dataclass(frozen=True)
class BottleneckConfig:
    """The contents of adapter_config.json, besides the marker `peft_type`."""

    base_model_name_or_path: str | None
    placement: str
    reduction_factor: int
    activation: str


class Bottleneck(torch.nn.Module):
    """h -> h + W_up f(W_down h), the identity before training because W_up and its bias start at zero."""

    def __init__(self, hidden: int, size: int, activation: str, device: torch.device):
        super().__init__()
        # float32 whatever the dtype of the base: 16 bits would round small steps away.
        self.down = torch.nn.Linear(hidden, size, device=device, dtype=torch.float32)
        self.activation = _ACTIVATIONS[activation]()
        self.up = torch.nn.Linear(size, hidden, device=device, dtype=torch.float32)
        torch.nn.init.zeros_(self.up.weight)
        torch.nn.init.zeros_(self.up.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        added = self.up(self.activation(self.down(hidden.to(self.down.weight.dtype))))
        return hidden + added.to(hidden.dtype)


class WithBottleneck(torch.nn.Module):
    """A sublayer of the base with a bottleneck on its output. All other attributes are the sublayer's."""

    def __init__(self, sublayer: torch.nn.Module, bottleneck: Bottleneck):
        super().__init__()
        self.sublayer = sublayer
        self.bottleneck = bottleneck
        self.enabled = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.sublayer(*args, **kwargs)
        if not self.enabled:
            return output
        if isinstance(output, tuple):
            return (self.bottleneck(output[0]), *output[1:])
        return self.bottleneck(output)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "sublayer":
                raise
            return getattr(self.sublayer, name)


def add_bottlenecks(model: Any, method: MethodConfig) -> Any:
    """Add fresh adapters to `model` in place, freeze everything else, and return it.

    Raises InputError when its layers lack one of the two sublayers.
    """
    return _insert(
        model,
        BottleneckConfig(
            getattr(model, "name_or_path", None) or None, method.placement, method.reduction_factor, method.activation
        ),
    )


def has_bottlenecks(model: Any) -> bool:
    return isinstance(getattr(model, "bottleneck_config", None), BottleneckConfig)


def is_saved_bottleneck(folder: Path) -> bool:
    """Whether the adapter in `folder` is a bottleneck adapter (not one of PEFT's)."""
    file = folder / CONFIG_FILE
    return file.exists() and json.loads(file.read_text(encoding="utf-8")).get("peft_type") == PEFT_TYPE


def save_bottlenecks(model: Any, folder: Path) -> None:
    """Write the adapters of `model`, without its base: adapter_config.json, adapter_model.safetensors, README.md."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = asdict(model.bottleneck_config)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _tensors(model).items()}
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / "README.md").write_text(
        _README.format(**config | {"base": config["base_model_name_or_path"]}), encoding="utf-8"
    )
    # The configuration comes last: it is what marks the folder as an adapter.
    text = json.dumps({"peft_type": PEFT_TYPE, "library_name": "ftlab", **config}, indent=2)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def load_bottlenecks(base: Any, folder: Path) -> Any:
    """Add the adapters saved in `folder` to `base` in place, and return it.

    Raises InputError when they do not fit the base.
    """
    saved = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    config = BottleneckConfig(**{name: saved[name] for name in BottleneckConfig.__dataclass_fields__})
    model = _insert(base, config)
    load_weights(model, folder)
    return model


def load_weights(model: Any, folder: Path) -> None:
    """Load the adapter weights saved in `folder` into `model`. Raises InputError when the shapes differ."""
    from safetensors.torch import load_file

    mine, saved = _tensors(model), load_file(folder / WEIGHTS_FILE)
    if {name: t.shape for name, t in mine.items()} != {name: t.shape for name, t in saved.items()}:
        raise InputError(
            "This adapter does not fit the base",
            given=f"{folder}: {len(saved)} tensors",
            allowed=f"the base it was trained on: {len(mine)} tensors of the same names and shapes",
        )
    with torch.no_grad():
        for name, tensor in mine.items():
            tensor.copy_(saved[name])


def _insert(model: Any, config: BottleneckConfig) -> Any:
    if has_bottlenecks(model):
        raise FtlabError("This model has bottleneck adapters already", try_="reload the base")
    hidden = model.config.get_text_config().hidden_size
    size = max(1, hidden // config.reduction_factor)
    layers = _layers(model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for layer in layers:
        kinds = (_FEED_FORWARD,) if config.placement == "pfeiffer" else (_ATTENTION, _FEED_FORWARD)
        for name in filter(None, (_sublayer(layer, kind) for kind in kinds)):
            sublayer = getattr(layer, name)
            device = next(sublayer.parameters()).device
            bottleneck = Bottleneck(hidden, size, config.activation, device).train(model.training)
            setattr(layer, name, WithBottleneck(sublayer, bottleneck).train(model.training))
    model.bottleneck_config = config
    return model


def _layers(model: Any) -> list[Any]:
    """The decoder's layers, recognized by their sublayers."""
    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if (
            isinstance(module, torch.nn.ModuleList)
            and len(module) == count
            and all(_sublayer(layer, _ATTENTION) and _sublayer(layer, _FEED_FORWARD) for layer in module)
        ):
            return list(module)
    raise InputError(
        "Bottleneck adapters do not work with this base",
        given=type(model).__name__,
        allowed=f"decoders whose layers each have attention ({', '.join(_ATTENTION)}) and a feed-forward part "
        f"({', '.join(_FEED_FORWARD)})",
        try_="method.name=lora, which works with any linear layer",
    )


def _sublayer(layer: Any, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if isinstance(getattr(layer, name, None), torch.nn.Module)), None)


def _tensors(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in model.named_parameters() if ".bottleneck." in name}
