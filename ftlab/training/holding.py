"""The loss that holds a model to its base: KL(base || adapted) along the base's own answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from ftlab.training.speed import base_of

if TYPE_CHECKING:
    from ftlab.training.self_replay import Teacher

_KEYS = ("held", "held_top", "held_log_probs")


@dataclass
class HoldingCollator(DataCollatorForLanguageModeling):
    """TRL's batches, and where in them what is held to what: `held` (bool, shaped as the labels), and for each such
    token in order its row of `held_top` and `held_log_probs` (see Teacher). Only where a batch has such rows."""

    teacher: Teacher | None = None

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        rows = [example.get("held", -1) for example in examples]
        if self.teacher is None or max(rows) < 0:
            return batch
        # The same layout again, with the labels of these rows alone.
        alone = [
            {**example, "labels": example["labels"] if row >= 0 else [-100] * len(example["labels"])}
            for example, row in zip(examples, rows, strict=True)
        ]
        places = [self.teacher.of(row) for row in rows if row >= 0]
        batch["held"] = super().torch_call(alone)["labels"] != -100
        batch["held_top"] = torch.cat([self.teacher.top[place] for place in places])
        batch["held_log_probs"] = torch.cat([self.teacher.log_probs[place] for place in places])
        return batch


@dataclass(frozen=True)
class Targets:
    """The tokens of a batch that are held: `places` (bool, shaped as the labels), and the base's probabilities."""

    places: torch.Tensor
    top: torch.Tensor
    log_probs: torch.Tensor


def take_targets(inputs: dict[str, Any]) -> Targets | None:
    """Take out of `inputs` what the model does not read; None where nothing is held. Tokens whose label was taken away
    meanwhile do not count."""
    places, top, log_probs = (inputs.pop(name, None) for name in _KEYS)
    if places is None:
        return None
    still = inputs["labels"][places] != -100
    return Targets(places & (inputs["labels"] != -100), top[still], log_probs[still])


def shortened(logits: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of `logits` [tokens, words] (float32) the `most` likeliest words [tokens, k] (int32) and their log-probabilities
    with that of all other words together [tokens, k + 1]."""
    top = logits.topk(min(most, logits.shape[-1] - 1), dim=-1).indices
    return top.int(), _log_probs(logits, top)


def divergence(logits: torch.Tensor, top: torch.Tensor, log_probs: torch.Tensor) -> torch.Tensor:
    """The sum over the tokens of KL(base || model), in nats: of the model's `logits` [tokens, words] (float32) from the
    base's `log_probs` of the words `top` and of the rest. Never above that of all words, and 0 where nothing moved."""
    return (log_probs.exp() * (log_probs - _log_probs(logits, top.long()))).sum()


def _log_probs(logits: torch.Tensor, top: torch.Tensor) -> torch.Tensor:
    # The rest by itself: one minus the sum of the others would be noise where it is small.
    rest = logits.scatter(-1, top, float("-inf")).logsumexp(-1, keepdim=True)
    return torch.cat([logits.gather(-1, top), rest], -1) - logits.logsumexp(-1, keepdim=True)


def score_held(model: Any, inputs: dict[str, Any], targets: Targets) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of one row without padding in which some tokens are held: the logits [tokens, words] (float32) of the other
    labels, these labels, and the divergence of the held tokens."""
    labels = inputs["labels"][0, 1:]
    places = (labels != -100).nonzero()[:, 0]
    labels, held = labels[places], targets.places[0, 1:][places]
    rest = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**rest, logits_to_keep=places).logits[0].float()
    return logits[~held], labels[~held], divergence(logits[held], targets.top, targets.log_probs)


@contextlib.contextmanager
def hidden_states(model: Any) -> Iterator[list[torch.Tensor]]:
    """Within it the last hidden states [rows, tokens, width] of each forward pass of `model` are added to the list."""
    seen: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output.last_hidden_state)

    hook = base_of(model).base_model.register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()


def divergence_of(model: Any, hidden: torch.Tensor, targets: Targets) -> torch.Tensor:
    """`divergence` of the held tokens from the last `hidden` states of a batch; virtual tokens may stand before it."""
    wanted = targets.places[:, 1:]
    hidden = hidden[:, -targets.places.shape[1] :][:, :-1]
    return divergence(head_logits(model, hidden[wanted]), targets.top, targets.log_probs)


def head_logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """The logits [tokens, words] (float32) of `hidden` [tokens, width], as the forward of `model` computes them: scaled
    and capped by the settings that trl.trainer.utils.add_fused_lm_head reads (TRL 1.16)."""
    base = base_of(model)
    head, text = base.get_output_embeddings(), base.config.get_text_config()
    logits = torch.nn.functional.linear(hidden.to(head.weight.dtype), head.weight, head.bias).float()
    names = ("logit_scale", "output_multiplier", "lm_head_multiplier")
    scale = next((value for name in names if (value := getattr(text, name, None)) is not None), 1.0)
    if (divided := getattr(text, "logits_scaling", None)) is not None:
        scale = divided if text.model_type == "hyperclovax" else 1 / divided
    cap = getattr(text, "final_logit_softcapping", None)
    logits = logits * scale
    return torch.tanh(logits / cap) * cap if cap else logits
