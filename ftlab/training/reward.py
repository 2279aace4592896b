"""Reward models, as the stages that learn from rewards use them: see `ftlab.models.reward`."""

from __future__ import annotations

from ftlab.models.reward import load_reward_model, score

__all__ = ["load_reward_model", "score"]
