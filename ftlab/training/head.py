"""The loss where there are labels, and no logits elsewhere.

TRL's head works in tiles, computes every tile a second time in the backward pass, and off a GPU scores the positions
without a label too. Where the logits of the labelled positions fit into memory it is quicker to keep them.
"""

from __future__ import annotations

from typing import Any

import torch

MOST_BYTES = 256 << 20  # of float32 logits; beyond, TRL's tiles save memory and lose little


def fits(inputs: dict[str, Any], vocabulary: int) -> bool:
    """Whether `inputs` are one row without padding on a CPU with few enough labels."""
    ids, labels = inputs["input_ids"], inputs.get("labels")
    if labels is None or ids.shape[0] != 1 or "position_ids" not in inputs or ids.device.type != "cpu":
        return False
    return int((labels != -100).sum()) * vocabulary * 4 <= MOST_BYTES


def score_labels(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, int, int]:
    """Sum of the negative log likelihoods (nats) of the labels of one row, their number, and how many rank first."""
    targets = inputs["labels"][0, 1:]
    places = (targets != -100).nonzero()[:, 0]
    targets = targets[places]
    rest = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**rest, logits_to_keep=places).logits[0].float()
    correct = int((logits.argmax(-1) == targets).sum())
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum"), len(targets), correct
