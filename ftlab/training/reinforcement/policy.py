"""TRL's GRPOTrainer and RLOOTrainer, asking as the chat does and remembering what was answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from trl import GRPOTrainer, RLOOTrainer

from ftlab.data.rendering import encode_prompt
from ftlab.evaluation.metrics.text import repetition
from ftlab.training.preferences.trainers import save_trained
from ftlab.training.reinforcement.rewards import Judge
from ftlab.training.warmup import WarmsUp

_EQUAL = 1e-6


@dataclass(frozen=True)
class Tried:
    """One answer that was tried: `rewards` by name, `reward` their weighted sum."""

    prompt: list[dict[str, str]]
    completion: str
    rewards: dict[str, float]
    reward: float


class _Policy:
    """What both trainers do alike. `tried` holds the answers of this process's latest generation."""

    tried: tuple[Tried, ...] = ()
    tokens_before = 0  # what an earlier attempt of this run read; TRL's count goes on from there

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """The prompts as evaluation and chat ask them: without room for thoughts, control tokens in them spelled."""
        known: dict[str, list[int]] = {}
        ids = []
        for prompt in prompts:
            key = repr(prompt)
            if key not in known:
                # encode_prompt leaves out the last assistant turn of an example.
                known[key] = encode_prompt([*prompt, {"role": "assistant", "content": ""}], self.processing_class)
            ids.append(known[key])
        return ids, None, {}

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        scores = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        rewards = (scores * self.reward_weights.to(scores.device)).sum(dim=1)
        mode = "train" if self.model.training else "eval"
        texts = self.processing_class.batch_decode(completion_ids_list, skip_special_tokens=True)
        repeated = torch.tensor([repetition(text) for text in texts], device=scores.device)
        self._metrics[mode]["repetition"].append(self.accelerator.gather(repeated).mean().item())
        if mode == "train":
            groups = rewards.view(-1, self.num_generations)
            flat = (groups.amax(dim=1) - groups.amin(dim=1)) < _EQUAL
            self._metrics[mode]["flat_share"].append(flat.float().mean().item())
            # `scores` holds those of all processes, one after the other.
            mine = slice(first := self.accelerator.process_index * len(prompts), first + len(prompts))
            rows = zip(prompts, texts, scores[mine].tolist(), rewards[mine].tolist(), strict=True)
            self.tried = tuple(
                Tried(prompt, text, dict(zip(self.reward_func_names, row, strict=True)), reward)
                for prompt, text, row, reward in rows
            )
        return scores

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        logs.pop("eval_loss", None)  # of answers that were just sampled: it says nothing
        figures = self._metrics["train" if self.model.training else "eval"]
        if counted := figures.get("num_tokens"):
            figures["num_tokens"] = [value - self.tokens_before for value in counted]
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        save_trained(self, super()._save, output_dir, state_dict)


class GroupPolicy(WarmsUp, _Policy, GRPOTrainer):
    """GRPO (Shao et al. 2024, arXiv 2402.03300)."""


class LeaveOneOutPolicy(WarmsUp, _Policy, RLOOTrainer):
    """RLOO (Ahmadian et al. 2024, arXiv 2402.14740)."""


def reward_functions(judges: Sequence[Judge], tokenizer: Any) -> list[Callable[..., list[float]]]:
    """The judges as TRL calls them; what they read is the text that the evaluation would read."""

    def function(judge: Judge) -> Callable[..., list[float]]:
        def reward(prompts: Any, completion_ids: Any, reference: list[str], **_: Any) -> list[float]:
            return judge.score(prompts, tokenizer.batch_decode(completion_ids, skip_special_tokens=True), reference)

        reward.__name__ = judge.name  # TRL's name for it in the logs
        return reward

    return [function(judge) for judge in judges]
