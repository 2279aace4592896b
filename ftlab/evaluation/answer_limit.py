"""The longest answer that a model may give: as long as the references need, or the number that a person set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.config import RunConfig
from ftlab.data.documents import STAGE
from ftlab.data.prompts_only import REWARD_STAGES
from ftlab.files import read_cached
from ftlab.run_directory import RunDirectory

# A good answer may be longer than every reference, and a base puts a label into a sentence of some ten tokens.
_MARGIN = 1.25
_FEWEST, _MOST = 16, 1024
_UNKNOWN = 128  # where there is no reference to go by
_TRAINING_ROWS = 2000  # more of them do not move the 99th percentile
_USUAL_SHARE = 0.99


@dataclass(frozen=True)
class AnswerLimit:
    """At most `tokens`, the stop token among them. `longest`: tokens of the longest reference, None where a person set
    the number or no row has a reference."""

    tokens: int
    longest: int | None = None

    def __str__(self) -> str:
        known = "" if self.longest is None else f": the longest reference has {self.longest:,}"
        return f"at most {self.tokens:,} tokens{known}"


def answer_limit(
    run: RunDirectory, config: RunConfig, tokenizer: Any, *, references: Sequence[str] | None = None
) -> AnswerLimit:
    """The longest answer for everything that `run` is asked, as `config.evaluation.max_new_tokens` says or, left empty,
    by the references of its frozen rows (and by `references`, of other rows that it is asked).

    No held-out reference is cut, unless it is longer than both 1,024 tokens and `optimisation.max_length`, or does not
    fit into the context. Training rows count up to their 99th percentile: one odd row must not cost time in every
    comparison.
    """
    from ftlab.models.load import text_length

    if config.evaluation.max_new_tokens is not None:
        return AnswerLimit(config.evaluation.max_new_tokens)
    if config.stage == STAGE:
        return AnswerLimit(_UNKNOWN)
    held_out = sorted(_lengths([*_held_out(run), *(references or [])], tokenizer))
    trained = sorted(_lengths(_trained(run), tokenizer))
    usual = trained[math.ceil(_USUAL_SHARE * len(trained)) - 1 :][:1]
    longest = max([*held_out[-1:], *usual], default=None)
    if longest is None:
        return AnswerLimit(config.reinforcement.max_new_tokens if config.stage in REWARD_STAGES else _UNKNOWN)
    most = max(_MOST, config.optimisation.max_length)
    # One more for the stop token.
    tokens = min(max(math.ceil(_MARGIN * longest) + 1, _FEWEST), most, text_length(config) or most)
    return AnswerLimit(tokens, longest)


def limit_used(run: RunDirectory, config: RunConfig) -> int:
    """The longest answer in tokens under which `run` was compared with its base or, before that, will be."""
    from ftlab.evaluation.sides import base_side, tokenizer_of

    settings = (read_cached(run.comparison_file) or {}).get("settings") or {}
    return int(settings.get("max_new_tokens") or answer_limit(run, config, tokenizer_of(base_side(run, config))).tokens)


def still_holds(tokens: int, cut: bool, limit: int, limit_now: int) -> bool:
    """Whether an answer of `tokens` that was given under `limit` is the answer under `limit_now` too: where it ended by
    itself, and fits."""
    return limit == limit_now or (not cut and tokens <= limit_now)


def _held_out(run: RunDirectory) -> list[str]:
    from ftlab.data.rendering import reference
    from ftlab.data.splits import read_split

    rows = read_split(run, "test") or read_split(run, "validation")
    return [reference(row["messages"]) for row in rows if row.get("label") is not False]


def _trained(run: RunDirectory) -> list[str]:
    from ftlab.data.rendering import reference
    from ftlab.data.splits import read_split
    from ftlab.evaluation.held_out import some

    rows = [row for row in read_split(run, "train") if row.get("source") != "replay" and row.get("label") is not False]
    return [reference(row["messages"]) for row in some(rows, _TRAINING_ROWS)]


def _lengths(texts: Sequence[str], tokenizer: Any) -> list[int]:
    texts = [text for text in texts if text.strip()]
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False).input_ids] if texts else []
