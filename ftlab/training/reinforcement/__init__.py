"""Learning from rewards: RLOO and GRPO, and what an answer is rewarded for."""
