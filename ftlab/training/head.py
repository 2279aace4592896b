"""The loss where there are labels, and no logits elsewhere.

TRL's head works in tiles, computes every tile a second time in the backward pass, and off a GPU scores the positions
without a label too. Where the logits of the labelled positions fit into memory it is quicker to keep them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch

from ftlab.errors import FtlabError
from ftlab.training import holding

ENTROPY_WORDS = 20  # of eaft, as in its paper
_SAME = 0.1  # of an entropy, far above what short formats round away
MOST_BYTES = 256 << 20  # of float32 logits; beyond, TRL's tiles save memory and lose little


def fits(inputs: dict[str, Any], vocabulary: int) -> bool:
    """Whether `inputs` are one row without padding on a CPU with few enough labels."""
    ids, labels = inputs["input_ids"], inputs.get("labels")
    if labels is None or ids.shape[0] != 1 or "position_ids" not in inputs or ids.device.type != "cpu":
        return False
    return int((labels != -100).sum()) * vocabulary * 4 <= MOST_BYTES


def score_labels(model: Any, inputs: dict[str, Any], loss: str = "nll") -> tuple[torch.Tensor, int, int]:
    """Sum of the losses (`summed_loss`, nats) of the labels of one row, their number, and how many rank first."""
    targets = inputs["labels"][0, 1:]
    places = (targets != -100).nonzero()[:, 0]
    targets = targets[places]
    rest = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**rest, logits_to_keep=places).logits[0].float()
    correct = int((logits.argmax(-1) == targets).sum())
    return summed_loss(loss, logits, targets), len(targets), correct


def summed_loss(loss: str, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum over the tokens of the negative log likelihood (nats) of `targets` [tokens] under `logits` [tokens,
    words] (float32), each times the weight that `loss` gives it:

    - nll: 1.
    - dft: the probability of the token (Wu et al. 2025, arXiv 2508.05629): what the model holds unlikely pulls less.
    - eaft: the entropy of the likeliest 20 words among themselves, from 0 to 1 (Diao et al. 2026, arXiv 2601.02151):
      where the model is sure of something, it is moved less.

    No gradient goes through the weights.
    """
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    if loss != "nll":
        each = each * (torch.exp(-each.detach()) if loss == "dft" else _entropy(logits.detach()))
    return each.sum()


def _entropy(logits: torch.Tensor) -> torch.Tensor:
    """Of the likeliest words at each token, as a part of the most that it can be."""
    most = min(ENTROPY_WORDS, logits.shape[-1])
    log_p = logits.topk(most, dim=-1).values.float().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1) / math.log(most)


@contextlib.contextmanager
def weighted(model: Any, loss: str) -> Iterator[None]:
    """Within it the log-probabilities of TRL's fused head (trl.trainer.utils.add_fused_lm_head, TRL 1.16) are weighted
    as in `summed_loss`, so that what TRL makes of them is that loss. Raises FtlabError for eaft on a base whose logits
    are not those of its head alone."""
    if loss == "nll":
        yield
        return

    def weigh(_model: Any, _inputs: Any, output: Any) -> None:
        on = getattr(output, "label_mask", None)
        if on is None:
            return
        with torch.no_grad():
            if loss == "dft":
                weights = output.log_probs.exp()
            else:
                weights = torch.zeros_like(output.log_probs)
                hidden = seen[-1][:, :-1][on]
                _check_head(model, hidden[:4], output.entropy[on][:4])
                weights[on] = _entropies(model, hidden).to(weights)
        output.log_probs = output.log_probs * weights

    with holding.hidden_states(model) as seen:
        hook = model.register_forward_hook(weigh)
        try:
            yield
        finally:
            hook.remove()


def _check_head(model: Any, hidden: torch.Tensor, entropy: torch.Tensor) -> None:
    """`entropy` [tokens] is TRL's; that of the logits as they are computed here is to be the same, but for rounding."""
    log_p = holding.head_logits(model, hidden).log_softmax(-1)
    found = -(log_p.exp() * log_p).sum(-1)
    if not bool(((found - entropy).abs() <= _SAME * (1 + found)).all()):
        raise FtlabError(
            "The loss eaft cannot be computed on this base",
            why="its logits are not those of its head alone",
            try_="optimisation.loss=dft or nll",
        )


def _entropies(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """`_entropy` at each of the `hidden` states [tokens, width], without the logits of all of them at once."""
    words = holding.base_of(model).get_output_embeddings().weight.shape[0]
    pieces = hidden.split(max(1, MOST_BYTES // (4 * words)))
    return torch.cat([_entropy(holding.head_logits(model, piece)) for piece in pieces])
