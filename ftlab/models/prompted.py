"""Inference with prefix tuning and prompt tuning: both amount to cached keys and values before every text.

PEFT's own forward adds the virtual tokens at each call: a chat that keeps its cache would get them again with every
token, and `logits_to_keep` would count them as text. With prompt tuning, its `generate` loses the positions of a
left-padded batch. So training uses PEFT, and inference uses this module: the virtual tokens become keys and values once
per text, and the base does the rest.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from ftlab.models.switch import switched


class Prompted(torch.nn.Module):
    """A base with learned virtual tokens before every text. Logits and answers are those of the text alone."""

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


def prompt_disabled(model: Prompted) -> AbstractContextManager[None]:
    """Bypass the virtual tokens: the model computes what the base does, bit for bit."""
    return switched([model], "enabled", False)
