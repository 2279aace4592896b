"""Tuning methods: check that the settings fit, apply the method to a model, and count what it trains.

`config.methods.METHODS` describes them. A method of PEFT is built by `_peft_config`, any other one in `apply_method`.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.config import MethodConfig, ModelConfig, RunConfig
from ftlab.config.methods import METHODS, fields_of
from ftlab.config.sections import unused
from ftlab.config.stages import SUPERVISED_STAGES
from ftlab.errors import InputError, shorten
from ftlab.models.families import (
    experts_left_out,
    feed_forward_layers,
    keeps_state,
    linear_layers,
    unread_layers,
)

# Keys, values and the feed-forward activations (Liu et al. 2022, arXiv 2205.05638), in Llama's names.
_IA3_LAYERS = ("k_proj", "v_proj", "down_proj")
_PACKED = ("packing", "padding_free")
_OPTIMIZER_BYTES = 8  # per trained weight: AdamW keeps two float32 values
_MANY_EXPERTS = 0.2  # of the weights; a smaller share hardly matters
_MOST_QUANTISED = 0.5  # of the weights; below that QLoRA saves less than half of the usual memory


def check_method(config: RunConfig) -> list[str]:
    """Raise InputError for settings that the method does not support; returns notes on those that it ignores."""
    method = config.method
    facts = METHODS[method.name]
    if facts.no_checkpointing and config.optimisation.gradient_checkpointing:
        raise InputError(
            f"{facts.heading} cannot be trained with gradient checkpointing",
            given="optimisation.gradient_checkpointing: true",
            allowed=f"false: {facts.no_checkpointing}",
            try_="use a smaller batch with gradient accumulation, or prompt_tuning or lora",
        )
    packed = [setting for setting in _PACKED if config.trainer.get(setting)]
    if "virtual_tokens" in facts.fields and packed:
        raise InputError(
            f"{facts.heading} cannot be trained on packed rows",
            given=f"trainer.{packed[0]}: true",
            allowed="false: virtual tokens precede each packed row, so only its first example would follow them",
            try_="leave it out, or choose lora",
        )
    if "initialisation" in facts.fields:
        _check_initialisation(method)
    _check_loss(config)
    return [f"method.{field} is set, but {facts.title} does not use it." for field in unused(method)]


def _check_loss(config: RunConfig) -> None:
    loss = config.optimisation.loss
    if loss == "nll":
        return
    if config.stage not in SUPERVISED_STAGES:
        raise InputError(
            f"The loss {loss} (optimisation.loss) does not work with the stage {config.stage}",
            given=f"optimisation.loss: {loss}",
            allowed=f"nll here; {loss} reweights the tokens of good answers, in the stages "
            f"{', '.join(SUPERVISED_STAGES)}",
            try_="leave it out",
        )
    if config.trainer.get("label_smoothing_factor"):
        raise InputError(
            f"Label smoothing does not work with the loss {loss} (optimisation.loss)",
            given=f"trainer.label_smoothing_factor: {config.trainer['label_smoothing_factor']}",
            allowed=f"0: {loss} reweights the target tokens, and smoothing trains all others too",
            try_="remove one of the two",
        )


def _check_initialisation(method: MethodConfig) -> None:
    if method.changes_base and not METHODS[method.name].from_weights:
        raise InputError(
            f"This initialization works with lora only, not with {method.name}",
            given=f"method.initialisation: {method.initialisation}",
            allowed="default, gaussian, orthogonal: the others modify the base, which could not be restored exactly",
        )
    if method.initialisation == "orthogonal" and method.rank % 2:
        raise InputError(
            "The orthogonal initialization needs an even LoRA rank (method.rank)",
            given=method.rank,
            allowed=f"for example {method.rank + 1}",
        )


def apply_method(
    model: Any,
    method: MethodConfig,
    *,
    tokenizer: Any = None,
    gradient_checkpointing: bool = False,
    task: str = "CAUSAL_LM",
    empty: bool = False,
) -> Any:
    """Prepare `model` for training with `method`: wrapped by PEFT, changed in place, or with all weights trainable.

    Prefix and prompt tuning, which are initialized from real words, need `tokenizer`. All trained weights are float32.
    `task` is PEFT's task type: CAUSAL_LM, or SEQ_CLS for a model that scores. `empty` is for a model on the meta
    device, whose weights cannot be read. Raises InputError when the method does not fit the model.
    """
    if method.is_full:
        return model.requires_grad_(True)
    if method.name == "bottleneck":
        from ftlab.models.bottleneck import add_bottlenecks

        return add_bottlenecks(model, method)
    if method.is_quantised and not empty:
        from peft import prepare_model_for_kbit_training

        # Casts norms to float32 and lets gradients flow to the adapter through the frozen 4-bit layers.
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=gradient_checkpointing)
    model = _wrap(model, method, empty=empty, task=task)
    if "virtual_tokens" in fields_of(method.name) and not empty:
        _start_from_text(model, method, tokenizer)
    return model


def _wrap(model: Any, method: MethodConfig, *, empty: bool, task: str) -> Any:
    """`model` as a PeftModel with fresh adapters. Raises InputError when the method does not fit the model."""
    from peft import get_peft_model

    names = linear_names(model)
    if "virtual_tokens" in fields_of(method.name):
        _check_attention(model, method)
    if "targets" in fields_of(method.name):
        _check_targets(model, method, names)
    try:
        return get_peft_model(model, _peft_config(model, method, empty=empty, task=task), low_cpu_mem_usage=empty)
    except ValueError as error:
        if "ParamWrapper" in str(error):
            raise InputError(
                f"The experts of this base cannot be trained with these settings: {shorten(error, 160)}",
                given=f"{model.config.model_type}, method.name: {method.name}, dropout {method.dropout}",
                allowed="lora without dropout: experts are stacks of matrices, not linear layers",
                try_=f"method.name=lora, or method.targets={','.join(names)}, which excludes the experts",
            ) from None
        if "targets" in fields_of(method.name) and "target" in str(error).lower():
            raise InputError(
                "The LoRA targets (method.targets) match no layer of this base",
                given=method.targets,
                allowed=f"all-linear, mlp, or some of: {', '.join(names)}",
            ) from None
        raise _unfit(model, method, error) from None


def _peft_config(model: Any, method: MethodConfig, *, empty: bool, task: str) -> Any:
    """PEFT's configuration of `method`."""
    from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig

    match method.name:
        case "lora" | "dora" | "qlora":
            plain = empty or method.initialisation == "default"
            return LoraConfig(
                task_type=task,
                r=method.rank,
                lora_alpha=method.alpha,
                lora_dropout=method.dropout,
                target_modules=lora_targets(method.targets, model),
                exclude_modules=unread_layers(model) or None,
                bias="none",
                use_dora=method.name == "dora",
                use_rslora=method.rank_stabilised,
                # PEFT also accepts pissa_niter_16, which its annotation spells as a template.
                init_lora_weights=True if plain else method.initialisation,  # type: ignore[arg-type]
            )
        case "ia3":
            if set(_IA3_LAYERS) <= set(linear_names(model)):
                return IA3Config(
                    task_type=task, target_modules=list(_IA3_LAYERS), feedforward_modules=[_IA3_LAYERS[-1]]
                )
            # For other families, PEFT has defaults by model type.
            return IA3Config(task_type=task)
        case "prefix_tuning":
            return PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=method.virtual_tokens)
        case "prompt_tuning":
            return PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=method.virtual_tokens)
        case _:
            raise ValueError(f"{method.name} is not one of PEFT's methods")


def method_of_adapter(saved: Mapping[str, Any], *, quantised: bool) -> str:
    """The method that trained an adapter of PEFT, by its adapter_config.json (`saved`), which does not say whether the
    base was `quantised`."""
    kind = str(saved.get("peft_type", "")).lower()
    if kind != "lora":
        return kind
    if saved.get("use_dora"):
        return "dora"
    return "qlora" if quantised else "lora"


def _check_attention(model: Any, method: MethodConfig) -> None:
    """Reject virtual tokens on a base that does not attend to all of the text."""
    text = model.config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    slides = any("sliding" in kind for kind in kinds) if kinds else bool(getattr(text, "sliding_window", None))
    if slides:
        which = "has sliding-window attention"
        allowed = "bases with full attention: here the virtual tokens would leave the window after a while"
    elif keeps_state(model):
        which = "compresses the text into a state"
        allowed = "bases that attend to every token: virtual tokens are keys and values, which this base lacks"
    else:
        return
    raise InputError(
        f"{METHODS[method.name].heading} does not work with this base",
        given=f"{model.config.model_type}, which {which}",
        allowed=allowed,
        try_="method.name=lora",
    )


def _check_targets(model: Any, method: MethodConfig, names: list[str]) -> None:
    """Reject targets that the base never calls: training them would silently have no effect."""
    unread = {name.rsplit(".", 1)[-1] for name in unread_layers(model)} - set(names)
    wanted = lora_targets(method.targets, model)
    strange = [name for name in wanted if name.rsplit(".", 1)[-1] in unread] if isinstance(wanted, list) else []
    if strange:
        raise InputError(
            "An adapter on these layers would have no effect",
            given=f"method.targets: {', '.join(strange)}. {model.config.model_type} passes their weights to its own "
            "kernel and never calls the layers",
            allowed=f"all-linear, or some of: {', '.join(names)}",
        )


def _start_from_text(model: Any, method: MethodConfig, tokenizer: Any) -> None:
    """Initialize the virtual tokens of `model` from real words: `method.initial_text`, else random ones.

    Prompt tuning uses their embeddings (Lester et al. 2021, arXiv 2104.08691), prefix tuning their keys and values
    (Li and Liang 2021, arXiv 2101.00190); both papers found random values to be worse.
    """
    import torch
    from peft import PeftType, initialize_kv_prefix_from_past_key_values

    base = model.get_base_model()
    count = method.virtual_tokens
    if method.initial_text:
        ids = tokenizer(method.initial_text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise InputError("The initial text (method.initial_text) has no tokens", given=method.initial_text)
        ids = torch.tensor((ids * -(-count // len(ids)))[:count])
    else:
        ids = torch.randint(len(tokenizer), (count,))
    ids = ids[None].to(base.device)
    with torch.no_grad():
        if model.active_peft_config.peft_type == PeftType.PREFIX_TUNING:
            cache = base(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
            try:
                initialize_kv_prefix_from_past_key_values(model, past_key_values=cache)
            except ValueError as error:
                raise _unfit(base, method, error) from None
        else:
            embedding = model.prompt_encoder[model.active_adapter].embedding.weight
            embedding.copy_(base.get_input_embeddings()(ids)[0])


def _unfit(model: Any, method: MethodConfig, error: Exception) -> InputError:
    return InputError(
        f"{METHODS[method.name].title} cannot be used with this base: {shorten(error, 200)}",
        given=model.config.model_type,
        try_="method.name=lora, which works with any linear layer",
    )


def lora_targets(text: str, model: Any) -> str | list[str]:
    """The setting in PEFT's form: `all-linear` unchanged, `mlp` as the names of these layers in `model`, names as a
    list. Raises InputError when the base has no such layers."""
    text = text.strip()
    if text == "all-linear":
        return text
    if text != "mlp":
        return [name.strip() for name in text.split(",") if name.strip()]
    if names := feed_forward_layers(model):
        return names
    raise InputError(
        "This base has no MLP layers for LoRA",
        given=f"method.targets: mlp; {model.config.model_type} has mixers or experts instead",
        allowed=f"all-linear, or some of: {', '.join(linear_names(model))}",
        try_="method.targets=all-linear",
    )


def linear_names(model: Any) -> list[str]:
    """The last name parts of the linear layers of `model` that can be adapted, without the head."""
    return sorted({name.rsplit(".", 1)[-1] for name in linear_layers(model)})


def keep_start(model: Any, method: MethodConfig, folder: Path, *, write: bool = True) -> Path | None:
    """Save the adapter before training if its initialization changes the base; `save_adapter` needs it.

    Without `write` it only returns the path: of several processes only one writes.
    """
    if not method.changes_base:
        return None
    if not write:
        return folder
    config = model.peft_config["default"]
    kept = copy.deepcopy(config)
    try:
        # Loading it must not subtract its initial value from the base a second time.
        config.init_lora_weights = True
        model.save_pretrained(str(folder))
    finally:
        model.peft_config["default"] = kept
    return folder


def save_adapter(model: Any, folder: Path, start: Path | None) -> None:
    """Save the PeftModel `model` so that it loads on the untouched base.

    With `start` (see `keep_start`) the difference between now and then is saved, as a plain LoRA of twice the rank:
    B A - B0 A0 on the base W equals B A on W - B0 A0 (Meng et al. 2024, PiSSA, arXiv 2404.02948, appendix).
    """
    model.save_pretrained(str(folder), path_initial_model_for_weight_conversion=str(start) if start else None)


def remarks_on(model: Any, method: MethodConfig) -> list[str]:
    """Notes on the parts of `model` that `method`, once applied, trains or leaves out."""
    remarks = []
    share = experts_left_out(model)
    if not method.is_full and share >= _MANY_EXPERTS:
        remarks.append(
            f"{METHODS[method.name].title} does not train the experts of this base, which make up {share:.0%} of its "
            "weights, only the layers around them."
        )
    if method.is_quantised and (share := _quantised_share(model)) < _MOST_QUANTISED:
        remarks.append(
            f"Only {share:.0%} of the weights of this base are quantized to {method.quantisation}: embeddings, experts "
            "and family-specific layers are not, so QLoRA saves little memory here."
        )
    return remarks


@dataclass(frozen=True)
class Trained:
    """The number of weights that a method trains."""

    trained: int
    total: int

    @property
    def share(self) -> float:
        return self.trained / self.total if self.total else 0.0


@dataclass(frozen=True)
class MethodSize(Trained):
    """Sizes known before the run: `weights_bytes` is the file of the result; a checkpoint adds the optimizer state."""

    weights_bytes: int
    checkpoint_bytes: int


def count_trained(model: Any) -> Trained:
    """The trained and all weights of `model`."""
    counts = [(_count(parameter), parameter.requires_grad) for parameter in model.parameters()]
    return Trained(sum(count for count, trained in counts if trained), sum(count for count, _ in counts))


def _count(parameter: Any) -> int:
    """The weights of `parameter`: 4-bit parameters pack two into a byte."""
    return parameter.numel() * (2 if type(parameter).__name__ == "Params4bit" else 1)


def _quantised_share(model: Any) -> float:
    frozen = [(_count(weight), type(weight).__name__) for weight in model.parameters() if not weight.requires_grad]
    quantised = sum(count for count, kind in frozen if kind in ("Params4bit", "Int8Params"))
    return quantised / max(1, sum(count for count, _ in frozen))


def size_of(method: MethodConfig, base: ModelConfig) -> MethodSize:
    """What `method` will train on `base` and save, from the configuration of the base alone: no weights are loaded.

    For a Hub model that is not here yet, only config.json is downloaded. Raises InputError when that fails or the
    method does not fit the model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from ftlab.models.load import load_config_of

    config = load_config_of(base)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model = apply_method(model, method, empty=True)
    counted = count_trained(model)
    shapes = {
        _saved_name(name): list(parameter.shape)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    saved = shapes
    if method.changes_base:  # saved at twice the rank
        saved = {name: [2 * a, b] if "lora_A" in name else [a, 2 * b] for name, (a, b) in shapes.items()}
    return MethodSize(
        counted.trained,
        counted.total,
        weights_bytes=_safetensors_bytes(saved),
        checkpoint_bytes=_safetensors_bytes(shapes) + _OPTIMIZER_BYTES * counted.trained,
    )


def _saved_name(name: str) -> str:
    """The name of a weight in PEFT's file."""
    if name.startswith("prompt_encoder."):
        return "prompt_embeddings"
    return name.replace(".default", "").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def _safetensors_bytes(shapes: dict[str, list[int]]) -> int:
    """The size of a safetensors file of float32 tensors: 8 bytes, a JSON header, the values."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in sorted(shapes.items()):
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-text // 8) * 8 + end
