"""The methods provided by PEFT: their configurations, and the handling that they need."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ftlab.config import MethodConfig
from ftlab.config.methods import METHODS, fields_of
from ftlab.errors import InputError, shorten
from ftlab.models.families import feed_forward_layers, keeps_state, linear_layers, unread_layers
from ftlab.models.switch import switched

# They subtract their initial value from the weights of the base, which they thereby change.
CHANGES_BASE = ("pissa", "pissa_niter_16", "olora")


# Keys, values and the feed-forward activations (Liu et al. 2022, arXiv 2205.05638), in Llama's names.
_IA3_LAYERS = ("k_proj", "v_proj", "down_proj")


def peft_config(model: Any, method: MethodConfig, *, empty: bool = False, task: str = "CAUSAL_LM") -> Any:
    """PEFT's configuration of `method`. `empty` (for models on the meta device) skips initialization from weights.
    `task` is PEFT's task type."""
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


def wrap(model: Any, method: MethodConfig, *, empty: bool = False, task: str = "CAUSAL_LM") -> Any:
    """`model` as a PeftModel with fresh adapters. Raises InputError when the method does not fit the model."""
    from peft import get_peft_model

    names = linear_names(model)
    if "virtual_tokens" in fields_of(method.name) and _sliding(model.config.get_text_config()):
        raise InputError(
            f"{METHODS[method.name].title.capitalize()} does not work with this base",
            given=f"{model.config.model_type}, which has sliding-window attention",
            allowed="bases with full attention: here the virtual tokens would leave the window after a while",
            try_="method.name=lora",
        )
    if "virtual_tokens" in fields_of(method.name) and keeps_state(model):
        raise InputError(
            f"{METHODS[method.name].title.capitalize()} does not work with this base",
            given=f"{model.config.model_type}, which compresses the text into a state",
            allowed="bases that attend to every token: virtual tokens are keys and values, which this base lacks",
            try_="method.name=lora",
        )
    if "targets" in fields_of(method.name):
        _check_targets(model, method, names)
    try:
        return get_peft_model(model, peft_config(model, method, empty=empty, task=task), low_cpu_mem_usage=empty)
    except ValueError as error:
        if "ParamWrapper" in str(error):
            raise InputError(
                f"The experts of this base cannot be trained with these settings: {shorten(error, 160)}",
                given=f"{model.config.model_type}, method.name: {method.name}, dropout {method.dropout}",
                allowed="lora without dropout: experts are stacks of matrices, not linear layers",
                try_=f"method.name=lora, or method.targets={','.join(names)}, which excludes the experts",
            ) from None
        if method.name in ("lora", "dora", "qlora") and "target" in str(error).lower():
            raise InputError(
                "The LoRA targets (method.targets) match no layer of this base",
                given=method.targets,
                allowed=f"all-linear, mlp, or some of: {', '.join(names)}",
            ) from None
        raise _unfit(model, method, error) from None


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


def start_from_text(model: Any, method: MethodConfig, tokenizer: Any) -> None:
    """Initialize the virtual tokens of `model` from real words: `method.initial_text`, else random ones.

    Prompt tuning uses their embeddings (Lester et al. 2021, arXiv 2104.08691), prefix tuning their keys and values
    (Li and Liang 2021, arXiv 2101.00190); both papers found random values to be worse.
    """
    import torch
    from peft import PeftType, initialize_kv_prefix_from_past_key_values

    base = model.get_base_model()
    wanted = method.virtual_tokens
    if method.initial_text:
        ids = tokenizer(method.initial_text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise InputError("The initial text (method.initial_text) has no tokens", given=method.initial_text)
        ids = torch.tensor((ids * -(-wanted // len(ids)))[:wanted])
    else:
        ids = torch.randint(len(tokenizer), (wanted,))
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


def _sliding(config: Any) -> bool:
    """Whether some layers have sliding-window attention."""
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return any("sliding" in kind for kind in kinds)
    return bool(getattr(config, "sliding_window", None))


def keep_start(model: Any, method: MethodConfig, folder: Path, *, write: bool = True) -> Path | None:
    """Save the adapter before training if its initialization changes the base; `save_adapter` needs it.

    Without `write` it only returns the path: of several processes only one writes.
    """
    if method.name != "lora" or method.initialisation not in CHANGES_BASE:
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


def adapters_disabled(model: Any) -> AbstractContextManager[None]:
    """Bypass the adapters of the PeftModel `model`: it computes what the base does, bit for bit.

    PEFT's own `disable_adapter` does the same but iterates over all parameters several times, which takes as long as a
    whole step of the starter for every token of a chat (measured).
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = (module for module in model.modules() if isinstance(module, BaseTunerLayer))
    return switched(layers, "_disable_adapters", True)


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
