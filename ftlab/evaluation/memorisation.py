"""Did the model learn the task, or its rows? Training rows against rows that it has never seen."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftlab.config import RunConfig
from ftlab.data.prompts_only import REWARD_STAGES
from ftlab.evaluation.continuation import RULE, Continued, Half, continue_halves, halve
from ftlab.evaluation.held_out import groups_of
from ftlab.evaluation.leaks import find_leaks
from ftlab.evaluation.memory_words import conclude
from ftlab.evaluation.perplexity import Losses, score_losses
from ftlab.run_directory import RunDirectory

if TYPE_CHECKING:
    from ftlab.data.rendering import Encoded

Progress = Callable[[str, int, int], None]
MOST_ROWS = 60  # of each kind; enough to see 20 points of difference
SHOWN = 5


@dataclass(frozen=True)
class Sample:
    """Rows of one kind: their tokens, those whose answers are long enough to be continued, and what the rows of both
    belong to."""

    encoded: list[Encoded]
    halves: list[Half]
    groups: list[str] = field(default_factory=list)
    groups_of_halves: list[str] = field(default_factory=list)


def measure_memorisation(
    model: Any,
    tokenizer: Any,
    run: RunDirectory,
    config: RunConfig,
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any] | None:
    """How the adapted `model` of `run` treats rows that it was trained on and rows that it was not.

    None where `config.evaluation.memorisation` is off, where nothing of the data's answers was trained (rewards), and
    where there are no held-out rows. At most 60 rows of each kind are drawn with seed 0; replayed rows do not count.
    Where the model has an adapter, the losses of its base are taken too, by switching it off. Returns
    `rows` {train, held_out}, `split`,
    `losses` {side: {train, held_out}} in nats per token,
    `carried_over` (of the improvement over the base on training rows, the share that unseen rows have too; or None),
    `carried_over_interval` (95% bootstrap), `gap` (loss of unseen minus that of training rows) with `gap_interval`,
    `continuation` {train, held_out: {rows, exact, exact_interval, overlap, longest}} with `continuation_p` and `rule`,
    or None where all answers are short, `examples` of rows continued word for word, `leaks` (see `find_leaks`),
    `memorised`, `overfitted` and `text`.
    Raises Stopped.
    """
    if not config.evaluation.memorisation or config.stage in REWARD_STAGES:
        return None
    train, split, held_out = _rows(run)
    if not train or not held_out:
        return None
    tell = progress or (lambda phase, done, total: None)
    tell("looking for training rows among the held-out ones", 0, 0)
    leaks = find_leaks(train, held_out, should_stop=should_stop)
    from ftlab.models.load import text_length

    context = text_length(config)
    samples = samples_of(run, config, tokenizer)
    if samples is None:
        return None
    sides = 1 if config.method.name == "full" else 2
    steps = _Steps(tell, sum(sides * len(one.encoded) + len(one.halves) for one in samples.values()))

    def losses(side: Any, name: str) -> dict[str, Losses]:
        phase = f"losses of {name} on training and held-out rows"
        return {
            kind: score_losses(
                side,
                sample.encoded,
                pad_token_id=tokenizer.pad_token_id,
                advance=steps.at(phase),
                should_stop=should_stop,
            )
            for kind, sample in samples.items()
        }

    found = {"adapted": losses(model, "the adapted model")}
    with _base_of(model, config) as base:
        if base is not None:
            found["base"] = losses(base, "the base")
    continued = {
        kind: continue_halves(
            model,
            tokenizer,
            sample.halves,
            batch_rows=config.evaluation.batch_size,
            context=context,
            advance=steps.at("continuing training rows from the middle of their answers"),
            should_stop=should_stop,
        )
        for kind, sample in samples.items()
    }
    return {
        "rows": {kind: len(sample.encoded) for kind, sample in samples.items()},
        "split": split,
        "rule": RULE,
        "examples": _examples(continued["train"]),
        "leaks": leaks,
        **conclude(found, continued, leaks, _clusters(samples["held_out"])),
    }


def samples_of(run: RunDirectory, config: RunConfig, tokenizer: Any) -> dict[str, Sample] | None:
    """The rows of `run` that are looked at, train and held_out; None where there are none."""
    from ftlab.models.load import text_length

    train, split, held_out = _rows(run)
    length = min(config.optimisation.max_length, text_length(config) or config.optimisation.max_length)
    groups = groups_of(run, split, held_out, config.data.group_by)
    found = {
        "train": _sample(train, tokenizer, length, [""] * len(train)),
        "held_out": _sample(held_out, tokenizer, length, groups),
    }
    return found if all(sample.encoded for sample in found.values()) else None


class _Steps:
    """Counts rows over several phases."""

    def __init__(self, tell: Progress, total: int):
        self._tell, self._total, self._done = tell, total, 0

    def at(self, phase: str) -> Callable[[int], None]:
        self._tell(phase, self._done, self._total)

        def advance(rows: int) -> None:
            self._done += rows
            self._tell(phase, self._done, self._total)

        return advance


def _rows(run: RunDirectory) -> tuple[list[dict[str, Any]], str, list[dict[str, Any]]]:
    """The rows that were learnt, and the name and the rows of the split that was not."""
    from ftlab.data.splits import read_split

    def answered(split: str) -> list[dict[str, Any]]:
        # An answer that was marked as bad was not learnt, and what is replayed the base knew before.
        rows = read_split(run, split)
        return [row for row in rows if row.get("label") is not False and row.get("source") != "replay"]

    train = answered("train")
    for split in ("test", "validation"):
        if rows := answered(split):
            return train, split, rows
    return train, "test", []


def _clusters(held_out: Sample) -> dict[str, list[str]]:
    """What held-out rows belong to, by data.group_by. Of training rows no columns are kept."""
    if len(set(held_out.groups)) == len(held_out.groups):
        return {}
    return {"held_out": held_out.groups, "continued held_out": held_out.groups_of_halves}


def _sample(rows: Sequence[dict[str, Any]], tokenizer: Any, length: int, groups: Sequence[str]) -> Sample:
    """At most 60 of `rows` that fit into `length` tokens; of longer documents the beginning."""
    from ftlab.data.documents import is_document
    from ftlab.data.rendering import encode

    order = random.Random(0).sample(range(len(rows)), len(rows))
    encoded, halves, of_rows, of_halves = [], [], [], []
    for number in order:
        one = encode(rows[number]["messages"], tokenizer)
        if len(one.input_ids) > length:
            if not is_document(rows[number]["messages"]):
                continue
            one = one.cut(length)
        encoded.append(one)
        of_rows.append(groups[number] or f"row {number}")
        if half := halve(rows[number].get("row", number), one, tokenizer):
            halves.append(half)
            of_halves.append(of_rows[-1])
        if len(encoded) == MOST_ROWS:
            break
    return Sample(encoded, halves, of_rows, of_halves)


@contextlib.contextmanager
def _base_of(model: Any, config: RunConfig) -> Any:
    """`model` as its base; None for a fully tuned model, whose base would have to be loaded beside it."""
    from ftlab.models.load import adapter_disabled

    if config.method.name == "full":
        yield None
        return
    with adapter_disabled(model) as base:
        yield base


def _examples(continued: Sequence[Continued]) -> list[dict[str, Any]]:
    """Training rows that were continued word for word, the longest first."""
    exact = sorted((one for one in continued if one.exact), key=lambda one: -len(one.rest))
    return [{"row": one.row, "given": one.given, "rest": one.rest, "said": one.text} for one in exact[:SHOWN]]
