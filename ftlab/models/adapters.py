"""Adapters on a loaded base: attach one, bypass it, and run virtual tokens as cached keys and values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ftlab.models.bottleneck import WithBottleneck, has_bottlenecks, is_saved_bottleneck, load_bottlenecks

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Prompted(torch.nn.Module):
    """A base with learned virtual tokens before every text (prefix and prompt tuning), for inference. Logits and
    answers are those of the text alone.

    PEFT's own forward adds the virtual tokens at each call: a chat that keeps its cache would get them again with every
    token, and `logits_to_keep` would count them as text. With prompt tuning, its `generate` loses the positions of a
    left-padded batch. So training uses PEFT. Here the virtual tokens become keys and values once per text, and the base
    does the rest.
    """

    def __init__(self, peft_model: Any):
        super().__init__()
        self.peft_model = peft_model
        self.enabled = True

    @property
    def base(self) -> Any:
        return self.peft_model.get_base_model()

    @property
    def config(self) -> Any:
        return self.base.config

    @property
    def device(self) -> torch.device:
        return self.base.device

    @property
    def dtype(self) -> torch.dtype:
        return self.base.dtype

    @property
    def generation_config(self) -> Any:
        return self.base.generation_config

    def tie_weights(self) -> None:
        """Called by lm-evaluation-harness on every model."""
        self.base.tie_weights()

    def prefix(self, rows: int) -> Any:
        """The cache of the virtual tokens for a batch of `rows`."""
        from peft import PeftType

        if self.peft_model.active_peft_config.peft_type == PeftType.PREFIX_TUNING:
            return self.peft_model.get_prompt(rows)
        embeddings = self.peft_model.get_prompt(1).to(self.dtype)
        cache = self.base(inputs_embeds=embeddings, use_cache=True, logits_to_keep=1).past_key_values
        if rows > 1:
            cache.batch_repeat_interleave(rows)
        return cache

    def forward(
        self, input_ids: torch.Tensor, attention_mask: Any = None, past_key_values: Any = None, **settings: Any
    ) -> Any:
        """As the forward of the base. A given `past_key_values` comes from this class and contains the prefix
        already."""
        if not self.enabled:
            return self.base(
                input_ids=input_ids, attention_mask=attention_mask, past_key_values=past_key_values, **settings
            )
        if past_key_values is None:
            past_key_values = self.prefix(len(input_ids))
        if attention_mask is not None:
            attention_mask = self._masked(attention_mask)
            positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
            settings["position_ids"] = positions[:, -input_ids.shape[1] :]
        return self.base(
            input_ids=input_ids, attention_mask=attention_mask, past_key_values=past_key_values, **settings
        )

    def generate(self, input_ids: torch.Tensor, attention_mask: Any = None, **settings: Any) -> torch.Tensor:
        """As the base's generate: the input tokens and the new ones, without the virtual tokens."""
        if not self.enabled:
            return self.base.generate(input_ids=input_ids, attention_mask=attention_mask, **settings)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        # A mask longer than the input tells generate that the input contains only tokens that are not cached.
        return self.base.generate(
            input_ids=input_ids,
            attention_mask=self._masked(mask),
            past_key_values=self.prefix(len(input_ids)),
            **settings,
        )

    def _masked(self, attention_mask: torch.Tensor) -> torch.Tensor:
        tokens = self.peft_model.active_peft_config.num_virtual_tokens
        return torch.cat([attention_mask.new_ones(len(attention_mask), tokens), attention_mask], dim=1)


def attach_adapter(base: PreTrainedModel, folder: Path) -> Any:
    """`base` with the adapter saved in `folder`, in evaluation mode, sharing the weights of `base`."""
    from peft import PeftModel

    if is_saved_bottleneck(folder):
        return load_bottlenecks(base, folder).eval()
    adapted = PeftModel.from_pretrained(base, str(folder)).eval()
    return Prompted(adapted).eval() if adapted.active_peft_config.is_prompt_learning else adapted


@contextlib.contextmanager
def adapter_disabled(model: Any) -> Iterator[Any]:
    """Let `model` answer as its base, bit for bit, from the same copy of the weights.

    Raises TypeError for a fully tuned model, which has no base to return to.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        off: contextlib.AbstractContextManager[None] = model.disable_adapter()
    elif isinstance(model, PeftModel):
        # PEFT's own `disable_adapter` does the same but iterates over all parameters several times, which takes as long
        # as a whole step of the starter for every token of a chat (measured).
        layers = (module for module in model.modules() if isinstance(module, BaseTunerLayer))
        off = _switched(layers, "_disable_adapters", True)
    elif isinstance(model, Prompted):
        off = _switched([model], "enabled", False)
    elif has_bottlenecks(model):
        off = _switched((module for module in model.modules() if isinstance(module, WithBottleneck)), "enabled", False)
    else:
        raise TypeError("a fully tuned model has no adapter to disable: load its base as well")
    with off:
        yield model


@contextlib.contextmanager
def _switched(modules: Iterable[Any], attribute: str, value: bool) -> Iterator[None]:
    """Set `attribute` of all `modules` to `value` within the context, and restore it afterwards in any case."""
    before = [(module, getattr(module, attribute)) for module in modules]
    try:
        for module, _ in before:
            setattr(module, attribute, value)
        yield
    finally:
        for module, own in before:
            setattr(module, attribute, own)
