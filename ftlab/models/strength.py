"""The strength of a result: how much of the change made by training is used, chosen afterwards without a new run.

At strength s every weight is `base + s (trained - base)`: 0 is the base, 1 the model as trained (WiSE-FT, Wortsman et
al. 2022, arXiv 2109.01903). A LoRA adds a product of two matrices, so scaling the product does that exactly. IA3
multiplies weights, so its multipliers move toward 1. DoRA stays a DoRA: with c = m / |V| for V = W + scaling B A, a row
of the merged weights is a (W + (s c / a) scaling B A), a = 1 - s + s c, so B and the magnitude m change and A does not.
Full weights are interpolated with those of the base. Methods that add virtual tokens or nonlinear layers have no such
interpolation.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig, load_config
from ftlab.config.methods import METHODS, titles
from ftlab.core.files import DamagedFile, read_json, write_json
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import FtlabError, InputError

AS_TRAINED = 1.0
HIGHEST = 1.25
GRID = (0.25, 0.5, 0.75, AS_TRAINED)  # the candidates
_KEPT = "_ftlab_as_trained"  # attribute of a layer: its weights as trained, while it has another strength


def why_not(config: RunConfig) -> str | None:
    """Why the strength of the result of a run with `config` cannot be set, in a sentence; None if it can."""
    if config.is_reward_model:
        return "A reward model scores answers and writes none, so it has no strength to choose."
    reason = METHODS[config.method.name].no_strength
    return f"{METHODS[config.method.name].heading} has no strength to choose: {reason}." if reason else None


def check_strength(config: RunConfig, strength: float) -> float:
    """`strength` as a number. Raises InputError when it is out of range or the method of `config` supports only 1."""
    try:
        value = float(strength)
    except (TypeError, ValueError):
        value = float("nan")
    if not 0 <= value <= HIGHEST:
        raise InputError(
            "The strength is out of range",
            given=strength,
            allowed=f"0 (the base) to {HIGHEST:g}; 1 is the model as trained",
        )
    if value != AS_TRAINED and (reason := why_not(config)):
        raise InputError(
            reason.removesuffix("."),
            given=f"strength {value:g}",
            allowed=titles(name for name in METHODS if not METHODS[name].no_strength),
            try_="leave the strength at 1, or train with method.name=lora",
        )
    return value


def strength_name(strength: float) -> str:
    """`strength` as shown after a name: empty for a model as trained."""
    return "" if strength == AS_TRAINED else f"strength {strength:g}"


def set_strength(model: Any, strength: float, *, base: Any = None) -> Any:
    """Set a loaded adapted `model` to `strength`, in place, and return it; with an adapter it can be called again for
    any other strength.

    A fully tuned model needs its `base` (loaded, on the same device) and is changed permanently: reload it for another
    strength. Raises InputError when the method has no strength, FtlabError when `base` is a different model.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not isinstance(model, PeftModel):
        if strength != AS_TRAINED:
            _interpolate(model, base, strength)
        return model
    settings = model.active_peft_config
    if strength != AS_TRAINED and (settings.is_prompt_learning or getattr(settings, "modules_to_save", None)):
        raise InputError("This adapter has no strength to choose", given=str(settings.peft_type))
    for layer in (module for module in model.modules() if isinstance(module, BaseTunerLayer)):
        for name in layer.active_adapters:
            if name in getattr(layer, "ia3_l", ()):
                _set_ia3(layer, name, strength)
            elif name in getattr(layer, "lora_magnitude_vector", ()):
                _set_dora(layer, name, strength)
            elif name in getattr(layer, "scaling", ()):
                layer.set_scale(name, strength)  # type: ignore[operator]  # a method of LoRA's layers alone
    return model


def _set_ia3(layer: Any, name: str, strength: float) -> None:
    [trained] = _as_trained(layer, [layer.ia3_l[name]])
    layer.ia3_l[name].data.copy_(trained if strength == AS_TRAINED else 1 + strength * (trained - 1))


def _set_dora(layer: Any, name: str, strength: float) -> None:
    import torch
    from peft.utils.other import transpose

    if name not in layer.lora_B:
        raise InputError("DoRA on embeddings has no strength to choose", try_="targets without the embedding")
    up, magnitude = layer.lora_B[name].weight, layer.lora_magnitude_vector[name].weight
    kept_up, kept_magnitude = _as_trained(layer, [up, magnitude])
    if strength == AS_TRAINED:
        up.data.copy_(kept_up)
        magnitude.data.copy_(kept_magnitude)
        return
    weight = transpose(layer.get_base_layer().weight, layer.fan_in_fan_out).detach().float()
    change = layer.scaling[name] * (kept_up.float() @ layer.lora_A[name].weight.detach().float())
    trained = kept_magnitude.float() / torch.linalg.norm(weight + change, dim=1)
    part = 1 - strength + strength * trained
    if not bool((part > 0).all()):
        raise InputError(
            "This DoRA cannot be extrapolated that far beyond its training",
            given=f"strength {strength:g}",
            allowed="0 to 1",
        )
    share = (strength * trained / part).unsqueeze(1)
    up.data.copy_(share * kept_up.float())
    magnitude.data.copy_(part * torch.linalg.norm(weight + share * change, dim=1))


def _as_trained(layer: Any, parameters: list[Any]) -> list[Any]:
    """The values of the trained `parameters` of a layer when it was loaded."""
    if not hasattr(layer, _KEPT):
        setattr(layer, _KEPT, [parameter.detach().clone() for parameter in parameters])
    return getattr(layer, _KEPT)


def _interpolate(model: Any, base: Any, strength: float) -> None:
    import torch

    if base is None:
        raise FtlabError("A fully tuned model has no base to return to", try_="load its base as well")
    below = dict(base.named_parameters())
    mine = dict(model.named_parameters())
    if {name: weight.shape for name, weight in mine.items()} != {name: weight.shape for name, weight in below.items()}:
        raise FtlabError(
            "The strength cannot be set: the weights of the trained model and its base differ in shape",
            try_="check that model.base of the run is the model that it was trained from",
        )
    with torch.no_grad():
        for name, trained in mine.items():
            # In float32, whatever the dtype of both: rounding could erase a small change.
            start = below[name].to(trained.device).float()
            trained.copy_(start + strength * (trained.float() - start))


def chosen_strength(run: RunDirectory) -> float:
    """The strength chosen for the current weights of `run`; 1 if none was."""
    choice = strength_choice(run)
    if choice is None:
        return AS_TRAINED
    value = choice.get("strength")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= HIGHEST:
        raise DamagedFile(run.strength_file, "its strength is not a number in the valid range")
    return float(value)


def strength_choice(run: RunDirectory) -> dict[str, Any] | None:
    """The contents of strength.json of `run` (strength, chosen (Unix seconds), by, weights_sha256, figures); None if no
    strength was chosen or the weights have changed since."""
    from ftlab.models.identity import is_made_of

    choice = read_json(run.strength_file)
    return choice if choice is not None and run.has_result and is_made_of(choice, run.result) else None


def choose_strength(
    run: RunDirectory, strength: float, *, by: str = "by hand", figures: dict[str, Any] | None = None
) -> float:
    """Store `strength` as the choice for `run`: the default of chat, exports and blind tests.

    No weights change; 1 resets the choice. `by` is the rule that chose it, based on `figures`. Raises InputError as
    `check_strength` does, FtlabError for a run without a result.
    """
    from ftlab.models.identity import weights_sha256

    if not run.has_result:
        raise FtlabError(f"The run {run.id} has no trained model yet", try_="wait until it has finished")
    value = check_strength(load_config(run.config_file), strength)
    if value == AS_TRAINED:
        run.strength_file.unlink(missing_ok=True)
        return value
    kept = {"strength": value, "chosen": time.time(), "by": by, "weights_sha256": weights_sha256(run.result)}
    write_json(run.strength_file, kept | {"figures": figures})
    return value


def write_scaled_adapter(source: Path, target: Path, base: Any, strength: float) -> None:
    """Set the PEFT adapter in `target`, a copy of that in `source`, to `strength`, at which it then loads anywhere.

    For a LoRA only lora_alpha changes, and `base` may be None; for IA3 and DoRA the weights change, which needs `base`
    (in float32 on the CPU).
    """
    import json

    settings_file = target / "adapter_config.json"
    settings = json.loads(settings_file.read_text(encoding="utf-8"))
    if settings["peft_type"] == "LORA" and not settings.get("use_dora"):
        settings["lora_alpha"] = _tidy(settings["lora_alpha"] * strength)
        patterns = settings.get("alpha_pattern") or {}
        settings["alpha_pattern"] = {name: _tidy(alpha * strength) for name, alpha in patterns.items()}
        settings_file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        return
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import save_file

    model = set_strength(PeftModel.from_pretrained(base, str(source)), strength)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in get_peft_model_state_dict(model).items()}
    save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})


def needs_base(config: RunConfig) -> bool:
    """Whether setting the strength of an adapter of the method of `config` needs the weights of its base."""
    return METHODS[config.method.name].scaled_on_base


def _tidy(alpha: float) -> float:
    """An integral value as an int: some loaders accept nothing else."""
    return int(alpha) if float(alpha).is_integer() else alpha
