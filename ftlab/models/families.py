"""Differences between families of bases, detected from the modules of a model, not from its name."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Sequence
from typing import Any

# `self.out_proj.weight` passed to a kernel; accessing its dtype or device does not count.
_READS_WEIGHT = re.compile(r"self\.(\w+)\.weight\b(?!\.(?:dtype|device|shape))")
# The names of the feed-forward part; OPT has its two layers directly in the block.
FEED_FORWARD = {"mlp", "feed_forward", "ffn", "block_sparse_moe", "shared_mlp", "fc1", "fc2"}
_PROBE_TOKENS, _PROBE_PADDING, _PROBE_STEPS = 8, 5, 2
_EXACT, _ROUNDED = 1e-3, 0.05  # of the largest logit: far above rounding, far below the effect of padding that is read


def unread_layers(model: Any) -> list[str]:
    """Linear layers whose weights `model` reads without calling the layer: an adapter there would have no effect.

    Mixers of state-space models pass weights to fused kernels (Mamba: x_proj, dt_proj, out_proj; Mamba 2, Bamba and
    Granite 4: out_proj). Detected in the source of mixers, which are modules that contain a convolution.
    """
    import torch

    names: list[str] = []
    for name, module in model.named_modules():
        children = dict(module.named_children())
        if any(isinstance(child, torch.nn.Conv1d) for child in children.values()):
            linear = {child for child, layer in children.items() if isinstance(layer, torch.nn.Linear)}
            names += [f"{name}.{child}" for child in sorted(linear & _read_by(type(module)))]
    return names


def _read_by(kind: type) -> set[str]:
    names: set[str] = set()
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if "forward" in name:
            with contextlib.suppress(OSError, TypeError):  # no source
                names.update(_READS_WEIGHT.findall(inspect.getsource(inspect.unwrap(method))))
    return names


def linear_layers(model: Any) -> list[str]:
    """The names of the linear layers of `model` that can be adapted, without the head."""
    import torch
    from transformers.pytorch_utils import Conv1D

    unread = set(unread_layers(model))
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and name not in unread and name.rsplit(".", 1)[-1] != "lm_head"
    ]


def feed_forward_layers(model: Any) -> list[str]:
    """The shortest name suffixes that select the linear layers of the feed-forward parts of `model` and no others:
    `up_proj`, or `mlp.c_proj` where attention has a c_proj too. Experts, which are stacks of matrices, are not
    included, and a model of mixers (Mamba) has none."""
    names = linear_layers(model)
    inside = {name for name in names if set(name.split(".")) & FEED_FORWARD}
    endings = set()
    for name in inside:
        parts = name.split(".")
        ends = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        endings.add(
            next(end for end in ends if all(other in inside for other in names if f".{other}".endswith(f".{end}")))
        )
    return sorted(endings)


def experts_left_out(model: Any) -> float:
    """The share of the weights that belong to untrained experts: three-dimensional parameters, which are not linear
    layers. 0 if their adapters are trained."""
    frozen = total = 0
    for name, parameter in model.named_parameters():
        total += parameter.numel()
        if ".experts." in name and parameter.requires_grad:
            return 0.0
        frozen += parameter.numel() if ".experts." in name else 0
    return frozen / total if total else 0.0


def generating_model(model: Any) -> Any:
    """The transformers model inside `model` that generates and whose generation_config applies."""
    from peft import PeftModel

    from ftlab.models.adapters import Prompted

    if isinstance(model, Prompted):
        return model.base
    return model.get_base_model() if isinstance(model, PeftModel) else model


def keeps_state(model: Any) -> bool:
    """Whether some layers compress the text into a state (state-space, linear attention, convolution) instead of
    keeping keys and values for each token."""
    from transformers import DynamicCache
    from transformers.cache_utils import LinearAttentionLayer

    inner = generating_model(model)
    # AttributeError: configurations without attention.
    with contextlib.suppress(AttributeError, KeyError, ValueError):
        layers = DynamicCache(config=inner.config).layers
        if any(isinstance(layer, LinearAttentionLayer) for layer in layers):
            return True
    return bool(getattr(inner, "_is_stateful", False))


def padding_changes_answers(model: Any, prompt: Sequence[int], pad_token_id: int) -> bool:
    """Whether left padding changes the answers of `model`, tested once with a short prompt.

    Attention masks padding out; whether a state ignores it depends on the code of the family.
    """
    import torch

    if not keeps_state(model):
        return False
    ids = list(prompt[-_PROBE_TOKENS:])

    def logits(padding: int) -> Any:
        made = model.generate(
            input_ids=torch.tensor([[pad_token_id] * padding + ids], device=model.device),
            attention_mask=torch.tensor([[0] * padding + [1] * len(ids)], device=model.device),
            max_new_tokens=_PROBE_STEPS,
            min_new_tokens=_PROBE_STEPS,
            do_sample=False,
            pad_token_id=pad_token_id,
            return_dict_in_generate=True,
            output_logits=True,
        )
        return torch.stack(made.logits).float()

    with torch.inference_mode():
        alone, padded = logits(0), logits(_PROBE_PADDING)
    allowed = _EXACT if model.dtype == torch.float32 else _ROUNDED
    # "not <=", so that NaN counts as a difference.
    return not float((alone - padded).abs().max()) <= allowed * float(alone.abs().max())


def takes_logits_to_keep(model: Any) -> bool:
    """Whether the forward of `model` can compute logits at selected positions only; some families compute all."""
    return "logits_to_keep" in inspect.signature(type(generating_model(model)).forward).parameters


def places(model: Any, start: int, count: int) -> dict[str, Any]:
    """The positions of `count` tokens from `start`, if the forward accepts them: some families (Bamba) otherwise
    restart at 0 with every call. After virtual tokens the model counts them itself."""
    import torch

    from ftlab.models.adapters import Prompted

    takes = "position_ids" in inspect.signature(type(generating_model(model)).forward).parameters
    if not takes or isinstance(model, Prompted):
        return {}
    return {"position_ids": torch.arange(start, start + count, device=model.device)[None]}


def next_logits(model: Any, input_ids: Any, **settings: Any) -> Any:
    """The output of `model` with the logits at the last position of `input_ids` (and at others only if unavoidable)."""
    keep = {"logits_to_keep": 1} if takes_logits_to_keep(model) else {}
    return model(input_ids=input_ids, **keep, **settings)


def carried_on(output: Any) -> dict[str, Any]:
    """The arguments that continue from `output` in the next call: past_key_values, Mamba's cache_params, or the state
    of another family, by name."""
    from transformers.generation.utils import ALL_CACHE_NAMES

    return next(({name: output[name]} for name in ALL_CACHE_NAMES if output.get(name) is not None), {})
