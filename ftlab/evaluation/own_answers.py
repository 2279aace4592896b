"""A base's own answers to prompts without references, and how another model predicts them, token by token.

Of the base's distribution at each place the likeliest tokens are kept, and all the others as one: what is computed of
that is at most the whole KL (data processing), and 8 MB hold 4,000 places of any vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftlab.evaluation.batches import by_length, pad, run_batches
from ftlab.evaluation.generate import generate_answers
from ftlab.evaluation.perplexity import tokens_at_once
from ftlab.models.families import takes_logits_to_keep

if TYPE_CHECKING:
    import numpy as np

TOP = 256  # tokens of a distribution that are kept one by one
NEW_TOKENS = 40  # of an answer of the base at most
MOST_SHOWN = 5  # prompts whose answers changed most, which a side answers itself


@dataclass(frozen=True)
class Written:
    """An answer of a base: its token `ids` (with the stop token), `text`, and whether the limit `cut` it. At each place
    `top` holds the likeliest tokens, the first one first, shape (tokens, k); `logs` their log-probabilities and, last,
    that of all other tokens together, in nats, shape (tokens, k + 1)."""

    ids: tuple[int, ...]
    text: str
    cut: bool
    top: np.ndarray
    logs: np.ndarray


@dataclass(frozen=True)
class Followed:
    """How a model predicts an answer of its base: the forward `kl` of base to model summed over its `tokens` places, in
    nats; in how many the likeliest token is the `same`; and, for the prompts with most KL, its own `answer`."""

    kl: float
    same: int
    tokens: int
    answer: str | None = None


def write_own(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], *, max_new_tokens: int, **more: Any
) -> tuple[list[Written], int | None]:
    """The greedy answers of the base `model` to `prompts` (token ids), of at most `max_new_tokens`, and the rows at
    once that fitted where memory ran out. `more` is as for `generate_answers`. Raises Stopped."""
    import numpy as np
    import torch

    made = generate_answers(model, tokenizer, prompts, max_new_tokens=max_new_tokens, **more)
    kept: list[tuple[Any, Any]] = [(np.zeros((0, 0), np.int32), np.zeros((0, 1), np.float32))] * len(prompts)

    def use(row: int, logs: Any) -> None:
        values, top = logs.topk(min(TOP, logs.shape[1]), dim=1)
        logs_kept = torch.cat([values, _rest(logs, top)], dim=1)
        kept[row] = top.to(torch.int32).cpu().numpy(), logs_kept.cpu().numpy()

    answers = [list(answer.ids) for answer in made.answers]
    halved = _predict(model, tokenizer.pad_token_id, prompts, answers, use, should_stop=more.get("should_stop"))
    written = [
        Written(answer.ids, answer.text, answer.cut, *arrays) for answer, arrays in zip(made.answers, kept, strict=True)
    ]
    return written, min((one for one in (made.halved_to, halved) if one), default=None)


def follow(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    written: Sequence[Written],
    *,
    max_new_tokens: int,
    shown: int = MOST_SHOWN,
    advance: Callable[[int], None] | None = None,
    **more: Any,
) -> tuple[list[Followed], int | None]:
    """How `model` predicts what a base has `written` to `prompts`, and its own answers to the `shown` ones with most KL
    a token; and as `write_own`. The same vocabulary is taken for granted. Raises Stopped."""
    import torch

    found = [Followed(0.0, 0, 0)] * len(prompts)

    def use(row: int, logs: Any) -> None:
        top = torch.as_tensor(written[row].top, dtype=torch.long, device=logs.device)
        base = torch.as_tensor(written[row].logs, device=logs.device).double()
        own = torch.cat([logs.gather(1, top), _rest(logs, top)], dim=1).double()
        # Where the base leaves nothing (a vocabulary that is kept whole), p log p is 0.
        terms = torch.where(base.isneginf(), 0.0, base.exp() * (base - own))
        # Several tokens can be the likeliest, in bfloat16 one place in a hundred: the base's is one of them, or is not.
        same = int((logs.gather(1, top[:, :1])[:, 0] == logs.amax(dim=1)).sum())
        # Rounding may leave the KL of a model to itself a little below 0.
        found[row] = Followed(max(0.0, float(terms.sum())), same, len(top))

    answers = [list(one.ids) for one in written]
    should_stop = more.get("should_stop")
    halved = _predict(model, tokenizer.pad_token_id, prompts, answers, use, advance=advance, should_stop=should_stop)
    order = sorted(range(len(found)), key=lambda row: -found[row].kl / max(1, found[row].tokens))
    most = [row for row in order[:shown] if found[row].tokens]
    made = generate_answers(model, tokenizer, [prompts[row] for row in most], max_new_tokens=max_new_tokens, **more)
    for row, answer in zip(most, made.answers, strict=True):
        found[row] = Followed(found[row].kl, found[row].same, found[row].tokens, answer.text)
    return found, min((one for one in (made.halved_to, halved) if one), default=None)


def _rest(logs: Any, top: Any) -> Any:
    """The log-probability of all tokens that are not among `top`, shape (places, 1)."""
    return logs.scatter(1, top, float("-inf")).logsumexp(dim=1, keepdim=True)


def _predict(
    model: Any,
    pad_token_id: int,
    prompts: Sequence[list[int]],
    answers: Sequence[list[int]],
    use: Callable[[int, Any], None],
    *,
    advance: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> int | None:
    """Call `use` with the number of each row and the log-probabilities (tokens of its answer, vocabulary) with which
    `model` predicts the answer. Rows are padded on the right, and logits are made for answers only."""
    import torch

    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    device, keeps = model.device, takes_logits_to_keep(model)
    vocabulary = model.config.get_text_config().vocab_size
    tokens = min(4096, tokens_at_once(device, vocabulary))

    @torch.inference_mode()
    def work(batch: list[int]) -> None:
        ids = torch.tensor(pad([rows[i] for i in batch], pad_token_id), device=device)
        mask = torch.tensor(pad([[1] * len(rows[i]) for i in batch], 0), device=device)
        keep = torch.zeros_like(mask, dtype=torch.bool)
        for place, i in enumerate(batch):
            # The logits at one position predict the token at the next.
            keep[place, len(prompts[i]) - 1 : len(rows[i]) - 1] = True
        places = {"logits_to_keep": keep} if keeps else {}
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **places).logits
        logits, at = logits if keeps else logits[keep], 0
        logits = logits.reshape(-1, logits.shape[-1])
        for i in batch:
            use(i, torch.log_softmax(logits[at : at + len(answers[i])].float(), dim=-1))
            at += len(answers[i])

    asked = [row for row, answer in enumerate(answers) if answer]
    batches = by_length([len(rows[row]) for row in asked], rows=64, tokens=tokens)
    if advance and len(asked) < len(rows):
        advance(len(rows) - len(asked))
    return run_batches(
        [[asked[place] for place in batch] for batch in batches], work, advance=advance, should_stop=should_stop
    )
