"""Whether a run repeats its training data: leaked held-out rows, word-for-word continuations, and losses compared with
the base."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from ftlab.config import RunConfig
from ftlab.config.stages import REWARD_STAGES
from ftlab.core.comparison import (
    ContinuationJson,
    ContinuedRowJson,
    LeakedPairJson,
    LeaksJson,
    MemorisationJson,
    MemoryFiguresJson,
)
from ftlab.core.run_directory import RunDirectory
from ftlab.data.shapes import Example
from ftlab.evaluation.batches import Progress, silent
from ftlab.evaluation.figures import percent
from ftlab.evaluation.losses import Losses, score_losses
from ftlab.evaluation.material import groups_of
from ftlab.evaluation.significance import LEVEL, SEED, Clusters, draw_sums, p_text, percentiles, share_interval

if TYPE_CHECKING:
    from ftlab.data.rendering import Encoded

N = 4  # words of an n-gram
FEWEST_TOKENS = 8  # of the second half; a shorter one is too easy to guess
MOST_TOKENS = 50  # of the second half that are generated, as in Carlini et al.
RULE = (
    f"the model is given a row up to the middle of its answer and continues greedily; at most {MOST_TOKENS} tokens are "
    "compared, as words, ignoring case and punctuation"
)


@dataclass(frozen=True)
class Half:
    """A row cut in the middle of its answer: the given token ids, and the `words` that follow in the row."""

    row: int
    prompt: list[int]
    opening: str
    rest: str
    words: list[str]
    tokens: int


@dataclass(frozen=True)
class Continued:
    """How close a continuation came: word for word, the share of matching n-grams, and the longest common run of words
    as a share of all words."""

    row: int
    opening: str
    rest: str
    text: str
    exact: bool
    overlap: float
    longest: float


def halve(row: int, encoded: Encoded, tokenizer: Any) -> Half | None:
    """`encoded` cut in the middle of its last answer (for plain text, of all of it). None if it is too short."""
    last = max((at for at, on in enumerate(encoded.trained) if on), default=-1)
    first = last
    while first > 0 and encoded.trained[first - 1]:
        first -= 1
    middle = first + (last - first) // 2
    # The stop token is no evidence of memorization.
    rest = encoded.input_ids[middle : min(last, middle + MOST_TOKENS)]
    if first < 0 or len(rest) < FEWEST_TOKENS or middle < 1:
        return None
    words = split(tokenizer.decode(rest, skip_special_tokens=True))
    if not words:
        return None
    opening = tokenizer.decode(encoded.input_ids[first:middle], skip_special_tokens=True)
    # Decoded alone, the rest would lose its leading space.
    whole = tokenizer.decode(encoded.input_ids[first : middle + len(rest)], skip_special_tokens=True)
    return Half(row, encoded.input_ids[:middle], opening, whole[len(opening) :], words, len(rest))


def continue_halves(
    model: Any,
    tokenizer: Any,
    halves: Sequence[Half],
    *,
    batch_rows: int,
    context: int | None,
    advance: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Continued]:
    """The greedy continuation by `model` of each of `halves`. Raises Stopped."""
    from ftlab.data.rendering import stop_token_ids
    from ftlab.evaluation.generate import generate_answers

    if not halves:
        return []
    made = generate_answers(
        model,
        tokenizer,
        [half.prompt for half in halves],
        max_new_tokens=max(half.tokens for half in halves),
        stop_ids=stop_token_ids(tokenizer, model.generation_config),
        batch_rows=batch_rows,
        context=context,
        advance=advance,
        should_stop=should_stop,
    )
    return [compare(half, answer.text) for half, answer in zip(halves, made.answers, strict=True)]


def compare(half: Half, text: str) -> Continued:
    """Compare `text` with what follows in the row."""
    wanted, continuation = half.words, split(text)[: len(half.words)]
    match = SequenceMatcher(None, wanted, continuation, autojunk=False).find_longest_match()
    return Continued(
        half.row,
        half.opening,
        half.rest,
        text,
        continuation == wanted,
        overlap(wanted, continuation),
        match.size / len(wanted),
    )


def overlap(wanted: Sequence[str], continuation: Sequence[str]) -> float:
    """The share of the n-grams of `wanted` that occur in `continuation` (0 to 1). Below n words, all words form one
    n-gram."""
    size = min(N, len(wanted))
    grams = [tuple(wanted[at : at + size]) for at in range(len(wanted) - size + 1)]
    there = {tuple(continuation[at : at + size]) for at in range(len(continuation) - size + 1)}
    return sum(gram in there for gram in grams) / len(grams)


def split(text: str) -> list[str]:
    """The words of `text`, lowercased and without punctuation."""
    from ftlab.data.normal import split_words

    return split_words(text)


MOST_TRAINING_ROWS = 50_000  # training rows searched, in about ten seconds
NAMED = 20  # pairs shown
_KINDS = ("same", "near", "answer")


def find_leaks(
    train: Sequence[Mapping[str, Any]],
    held_out: Sequence[Mapping[str, Any]],
    *,
    should_stop: Callable[[], bool] | None = None,
) -> LeaksJson:
    """Held-out rows whose prompt occurs in training, exactly or nearly (`ftlab.data.near`), or whose long answer does.

    Rows are examples with `row` and `messages`. Returns `same`, `near` and `answer` (held-out rows, each counted once,
    under the first that applies), `held_out` (all held-out rows), `pairs` (at most 20: the numbers `train_row` and
    `held_out_row`, their prompts `train` and `held_out`, and `kind`) and `text`. A copy under another system prompt is
    a near one. Raises Stopped.
    """
    from ftlab.data.near import near_pairs
    from ftlab.data.normal import Watch
    from ftlab.data.partition import prompt_text
    from ftlab.data.rendering import reference

    looked_at = train[:MOST_TRAINING_ROWS]
    turns = [row["messages"] for row in (*looked_at, *held_out)]
    pairs = near_pairs(
        [prompt_text(messages) for messages in turns],
        [reference(messages) for messages in turns],
        sides=[0] * len(looked_at) + [1] * len(held_out),
        across=True,
        watch=Watch(should_stop=should_stop),
    )
    gravest_of: dict[int, tuple[int, int]] = {}  # held-out row -> the most serious kind, and the training row
    for trained, held, how in pairs:
        kind = "near" if how == "same" and _system(turns[trained]) != _system(turns[held]) else how
        rank = _KINDS.index(kind)
        if held not in gravest_of or rank < gravest_of[held][0]:
            gravest_of[held] = rank, trained
    counts = {kind: sum(rank == place for rank, _ in gravest_of.values()) for place, kind in enumerate(_KINDS)}
    gravest = sorted((rank, held, trained) for held, (rank, trained) in gravest_of.items())
    return {
        "same": counts["same"],
        "near": counts["near"],
        "answer": counts["answer"],
        "held_out": len(held_out),
        "pairs": [
            _pair(_KINDS[rank], looked_at[trained], held_out[held - len(looked_at)])
            for rank, held, trained in gravest[:NAMED]
        ],
        "text": _in_words(counts, len(held_out), len(looked_at) < len(train)),
    }


def _system(messages: Sequence[Mapping[str, Any]]) -> str:
    return messages[0]["content"] if messages and messages[0]["role"] == "system" else ""


def _pair(kind: str, trained: Mapping[str, Any], held: Mapping[str, Any]) -> LeakedPairJson:
    from ftlab.errors import shorten

    return {
        "kind": kind,
        "train_row": trained.get("row"),
        "held_out_row": held.get("row"),
        "train": shorten(_prompt(trained), 200),
        "held_out": shorten(_prompt(held), 200),
    }


def _prompt(row: Mapping[str, Any]) -> str:
    turns = [turn["content"] for turn in row["messages"] if turn["role"] in ("user", "document")]
    return turns[-1] if turns else ""


def _in_words(counts: Mapping[str, int], rows: int, cut: bool) -> str:
    where = f"the first {MOST_TRAINING_ROWS:,} training rows" if cut else "the training rows"
    if not any(counts.values()):
        return f"None of the {rows} held-out rows has a copy or a near copy among {where}."
    has = {"same": ("has a copy", "have a copy"), "near": ("has a near copy", "have a near copy")}
    has["answer"] = ("has its answer word for word", "have their answers word for word")
    counted = [f"{count} {has[kind][count > 1]}" for kind, count in counts.items() if count]
    listed = " and ".join(filter(None, [", ".join(counted[:-1]), counted[-1]]))
    return f"Of the {rows} held-out prompts {listed} among {where}: their scores may show memory, not skill."


FEWEST_CARRIED = 0.5  # below it, most of what was learned applies only to the training rows
MEMORY_SHARE = 0.1  # by how much more n-grams of training rows are reproduced
LARGE_GAP = math.log(1.5)  # nats per token: a perplexity higher by half

By = Mapping[str, Any]  # "train" and "held_out"


def conclude(
    losses: Mapping[str, Mapping[str, Losses]],
    continued: Mapping[str, Sequence[Continued]],
    leaks: LeaksJson,
    clusters: Mapping[str, Clusters] | None = None,
) -> MemoryFiguresJson:
    """The figures of `measure_memorisation`: `losses` by side and kind of row, `continued` by kind of row.

    `clusters` by kind of row: the cluster of each row of `losses`, and under "continued held_out" that of each of
    `continued`.
    """
    tied = dict(clusters or {})
    gap, gap_interval = _gap(losses["adapted"], tied)
    carried, carried_interval = _carried_over(losses, tied) if "base" in losses else (None, None)
    own = {kind: tied.get(f"continued {kind}") for kind in continued}
    shares = {kind: _shares(rows, own[kind]) for kind, rows in continued.items()} if all(continued.values()) else None
    p = _difference(continued, own) if shares else None
    more = shares["train"]["overlap"] - shares["held_out"]["overlap"] if shares else 0.0
    memorised = p is not None and p < LEVEL and more > MEMORY_SHARE
    lost = carried is not None and carried < FEWEST_CARRIED
    overfitted = gap_interval is not None and gap_interval[0] > 0 and (gap > LARGE_GAP or lost)
    figures: MemoryFiguresJson = {
        "losses": {side: {kind: _mean(of) for kind, of in kinds.items()} for side, kinds in losses.items()},
        "gap": gap,
        "gap_interval": gap_interval,
        "carried_over": carried,
        "carried_over_interval": carried_interval,
        "continuation": shares,
        "continuation_p": p,
        "memorised": memorised,
        "overfitted": overfitted,
        "text": "",
    }
    sentences = [_fit_in_words(figures), _continuation_in_words(figures)]
    if leaks["same"] or leaks["near"] or leaks.get("answer"):
        sentences.append(leaks["text"])
    figures["text"] = " ".join(sentences)
    return figures


def _mean(losses: Losses) -> float:
    return math.fsum(losses.nll) / max(1, sum(losses.tokens))


def _gap(losses: Mapping[str, Losses], tied: Mapping[str, Clusters]) -> tuple[float, list[float] | None]:
    """How much higher the loss on unseen rows is, in nats per token, with its 95% bootstrap interval."""
    drawn = {kind: _draw(of, tied.get(kind)) for kind, of in losses.items()}
    ends = _ends(drawn["held_out"] - drawn["train"], losses, tied)
    return _mean(losses["held_out"]) - _mean(losses["train"]), ends


def _ends(values: Any, losses: Mapping[str, Losses], tied: Mapping[str, Clusters]) -> list[float] | None:
    """The interval, as wide as the kind with fewer rows (or clusters) requires. None if that kind has only one."""
    fewest = min(len(set(keys)) if (keys := tied.get(kind)) else len(of.nll) for kind, of in losses.items())
    return percentiles(values, fewest) if fewest > 1 and len(values) else None


def _carried_over(
    losses: Mapping[str, Mapping[str, Losses]], tied: Mapping[str, Clusters]
) -> tuple[float | None, list[float] | None]:
    """Improvement over the base on unseen rows divided by that on training rows, with its 95% bootstrap interval.

    None if the training rows did not improve: there is then nothing to carry over.
    """
    import numpy as np

    gains = {kind: _mean(losses["base"][kind]) - _mean(losses["adapted"][kind]) for kind in ("train", "held_out")}
    if gains["train"] <= 0:
        return None, None
    # The same draws for both sides, which scored the same rows.
    drawn = {
        kind: _draw(losses["base"][kind], tied.get(kind)) - _draw(losses["adapted"][kind], tied.get(kind))
        for kind in gains
    }
    shares = drawn["held_out"] / np.where(drawn["train"] > 0, drawn["train"], np.nan)
    return gains["held_out"] / gains["train"], _ends(shares[~np.isnan(shares)], losses["base"], tied)


def _draw(losses: Losses, clusters: Clusters) -> Any:
    """Mean losses of bootstrap samples of the rows."""
    import numpy as np

    sums = draw_sums(np.column_stack([losses.nll, losses.tokens]).astype(np.float64), clusters)
    return sums[:, 0] / np.maximum(sums[:, 1], 1)


def _shares(rows: Sequence[Continued], clusters: Clusters) -> ContinuationJson:
    exact = sum(row.exact for row in rows)
    return {
        "rows": len(rows),
        "exact": exact / len(rows),
        "exact_interval": share_interval([float(row.exact) for row in rows], clusters),
        "overlap": math.fsum(row.overlap for row in rows) / len(rows),
        "longest": math.fsum(row.longest for row in rows) / len(rows),
    }


def _difference(continued: Mapping[str, Sequence[Continued]], tied: Mapping[str, Clusters]) -> float:
    """The two-sided p of a permutation test on the mean n-gram overlap of two kinds of rows. Each cluster of rows
    counts once, with its mean."""
    import numpy as np
    from scipy.stats import permutation_test

    samples = [np.array(_once([row.overlap for row in continued[kind]], tied[kind])) for kind in ("train", "held_out")]
    if min(map(len, samples)) < 2:
        return 1.0
    result = permutation_test(
        samples,
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        permutation_type="independent",
        vectorized=True,
        n_resamples=9999,
        batch=256,
        rng=np.random.default_rng(SEED),
    )
    return float(result.pvalue)


def _once(values: Sequence[float], clusters: Clusters) -> list[float]:
    if clusters is None:
        return list(values)
    together: dict[Any, list[float]] = {}
    for value, key in zip(values, clusters, strict=True):
        together.setdefault(key, []).append(value)
    return [math.fsum(group) / len(group) for group in together.values()]


def _fit_in_words(figures: MemoryFiguresJson) -> str:
    own = figures["losses"]["adapted"]
    evidence = f"loss {own['train']:.3g} on training rows, {own['held_out']:.3g} on unseen ones"
    carried = figures["carried_over"]
    if carried is not None and carried > 0:
        share = percent(min(1.0, round(carried, 3)))
        evidence += f"; of what it gained on training rows, {share} carries over to unseen ones"
    elif carried is not None:
        evidence += ", which the base predicts better"
    if figures["overfitted"]:
        return f"The model is overfitted: {evidence}."
    return f"{_capital(evidence)}."


def _continuation_in_words(figures: MemoryFiguresJson) -> str:
    shares, p = figures["continuation"], figures["continuation_p"]
    if shares is None or p is None:
        return "The answers are too short to tell whether rows are repeated word for word."
    seen, unseen = shares["train"], shares["held_out"]
    evidence = (
        f"from the middle of an answer, it continues word for word in {percent(round(seen['exact'], 3))} of training "
        f"rows and {percent(round(unseen['exact'], 3))} of unseen ones ({p_text(p)} for the overlap)"
    )
    if figures["memorised"]:
        return f"It memorized training rows: {evidence}."
    return f"No sign that it memorized rows: {evidence}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


MOST_ROWS_OF_A_KIND = 60  # of each kind; enough to see a difference of 20 points
SHOWN = 5


@dataclass(frozen=True)
class Sample:
    """Rows of one kind: their tokens, those with answers long enough to be continued, and the clusters of both."""

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
) -> MemorisationJson | None:
    """How the adapted `model` of `run` treats rows it was trained on and rows it was not.

    None if `config.evaluation.memorisation` is off, if training used no answers of the data (rewards), or if there are
    no held-out rows. At most 60 rows of each kind are drawn with seed 0; replayed rows do not count. If the model has
    an adapter, the losses of its base are measured as well, by switching it off. Returns
    `rows` {train, held_out}, `split`,
    `losses` {side: {train, held_out}} in nats per token,
    `carried_over` (the share of the improvement over the base on training rows that unseen rows also have; or None),
    `carried_over_interval` (95% bootstrap), `gap` (loss of unseen minus that of training rows) with `gap_interval`,
    `continuation` {train, held_out: {rows, exact, exact_interval, overlap, longest}} with `continuation_p` and `rule`,
    or None if all answers are short, `examples` of rows continued word for word, `leaks` (see `find_leaks`),
    `memorised`, `overfitted` and `text`.
    Raises Stopped.
    """
    if not config.evaluation.memorisation or config.stage in REWARD_STAGES:
        return None
    train, split, held_out = _rows(run)
    if not train or not held_out:
        return None
    tell = progress or silent
    tell("looking for training rows among the held-out ones", 0, 0)
    leaks = find_leaks(train, held_out, should_stop=should_stop)
    from ftlab.models.load import text_length

    context = text_length(config)
    samples = samples_of(run, config, tokenizer)
    if samples is None:
        return None
    sides = 1 if config.method.is_full else 2
    steps = _Steps(tell, sum(sides * len(sample.encoded) + len(sample.halves) for sample in samples.values()))

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

    loss_of = {"adapted": losses(model, "the adapted model")}
    with _base_of(model, config) as base:
        if base is not None:
            loss_of["base"] = losses(base, "the base")
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
        **conclude(loss_of, continued, leaks, _clusters(samples["held_out"])),
    }


def samples_of(run: RunDirectory, config: RunConfig, tokenizer: Any) -> dict[str, Sample] | None:
    """The examined rows of `run`, train and held_out. None if there are none."""
    from ftlab.models.load import text_length

    train, split, held_out = _rows(run)
    length = min(config.optimisation.max_length, text_length(config) or config.optimisation.max_length)
    groups = groups_of(run, split, held_out, config.data.group_by)
    by_kind = {
        "train": _sample(train, tokenizer, length, [""] * len(train)),
        "held_out": _sample(held_out, tokenizer, length, groups),
    }
    return by_kind if all(sample.encoded for sample in by_kind.values()) else None


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


def _rows(run: RunDirectory) -> tuple[list[Example], str, list[Example]]:
    """The rows that were trained on, and the name and the rows of the split that was not."""
    from ftlab.data.splits import read_split

    def answered(split: str) -> list[Example]:
        # Answers marked as bad were not trained on, and the base already knew what is replayed.
        rows = read_split(run, split)
        return [row for row in rows if row.get("label") is not False and row.get("source") != "replay"]

    train = answered("train")
    for split in ("test", "validation"):
        if rows := answered(split):
            return train, split, rows
    return train, "test", []


def _clusters(held_out: Sample) -> dict[str, list[str]]:
    """The clusters of held-out rows, by data.group_by. Columns of training rows are not stored."""
    if len(set(held_out.groups)) == len(held_out.groups):
        return {}
    return {"held_out": held_out.groups, "continued held_out": held_out.groups_of_halves}


def _sample(rows: Sequence[Example], tokenizer: Any, length: int, groups: Sequence[str]) -> Sample:
    """At most 60 of `rows` that fit into `length` tokens; longer documents are truncated."""
    from ftlab.data.conversion import is_document
    from ftlab.data.rendering import encode

    order = random.Random(0).sample(range(len(rows)), len(rows))
    encoded, halves, of_rows, of_halves = [], [], [], []
    for number in order:
        whole = encode(rows[number]["messages"], tokenizer)
        if len(whole.input_ids) > length:
            if not is_document(rows[number]["messages"]):
                continue
            whole = whole.cut(length)
        encoded.append(whole)
        of_rows.append(groups[number] or f"row {number}")
        if half := halve(rows[number].get("row", number), whole, tokenizer):
            halves.append(half)
            of_halves.append(of_rows[-1])
        if len(encoded) == MOST_ROWS_OF_A_KIND:
            break
    return Sample(encoded, halves, of_rows, of_halves)


@contextlib.contextmanager
def _base_of(model: Any, config: RunConfig) -> Any:
    """`model` as its base. None for a fully tuned model, whose base would have to be loaded separately."""
    from ftlab.models.adapters import adapter_disabled

    if config.method.is_full:
        yield None
        return
    with adapter_disabled(model) as base:
        yield base


def _examples(continued: Sequence[Continued]) -> list[ContinuedRowJson]:
    """Training rows that were continued word for word, the longest first."""
    exact = sorted((row for row in continued if row.exact), key=lambda row: -len(row.rest))
    return [{"row": row.row, "given": row.opening, "rest": row.rest, "said": row.text} for row in exact[:SHOWN]]
