"""Checks on single rows: damaged text, structure, tokens, and how the splits cover each other."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ftlab.core.parsing import json_or
from ftlab.core.words import counted
from ftlab.data.checks.finding import (
    CoverageJson,
    DistributionJson,
    Examples,
    Finding,
    PackingJson,
    RaisedJson,
    TokensJson,
    TopicJson,
    VocabularyJson,
    WordsJson,
    by_split,
)
from ftlab.data.choices import EMPTY_ANSWER
from ftlab.data.conversion import NO_MISTAKES, ONLY_THOUGHT
from ftlab.data.normal import Watch, split_words
from ftlab.data.rendering import base_thinks, encode, ensure_chat_template, facts_of, render, tool_facts_of
from ftlab.data.shapes import Message, is_trained
from ftlab.data.tool_calls import TOOLS, UNLISTED, fault_of, most_think, parts_of, thinks, tools_of, uses_tools
from ftlab.errors import InputError, shorten

_USUAL = 0.3  # share of rows with tags from which HTML counts as the subject of the data
# The replacement character, control characters except tab and line ends, noncharacters, and lone surrogates.
_BROKEN = re.compile("[\ufffd\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff\ud800-\udfff]")
_TAGS = (
    "a|abbr|article|b|blockquote|body|br|button|center|cite|dd|div|dl|dt|em|font|footer|form|h[1-6]|head|header|hr|html"
    "|i|iframe|img|input|label|li|link|meta|nav|ol|option|p|script|section|select|small|span|strike|strong|style|sub"
    "|sup|table|tbody|td|tfoot|th|thead|title|tr|u|ul"
)
_HTML = re.compile(
    rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>|&(?:amp|lt|gt|quot|apos|nbsp|[lr][sd]quo|[mn]dash|hellip|#\d{{2,5}}|#x[0-9a-f]{{2,4}});",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)


def damaged_characters(examples: Examples, watch: Watch) -> list[Finding]:
    """Replacement and control characters, and text that was decoded twice (Ã¤ for ä; measured by `ftfy.badness`)."""
    from ftfy.badness import is_bad

    damaged: dict[int, str] = {}
    for position, turns in watch.over(examples.turns):
        for turn in turns:
            text = turn["content"]
            broken = _BROKEN.search(text)
            if broken is None and (text.isascii() or not is_bad(text)):
                continue
            damaged[position] = _around(text, broken.start() if broken else _first_foreign(text))
            break
    return by_split("encoding", damaged, examples, excerpts=damaged)


def html_remains(examples: Examples, watch: Watch) -> list[Finding]:
    """Tags and entities outside code. No finding if 30% or more of the rows have them, since then they are intended."""
    remains: dict[int, str] = {}
    for position, turns in watch.over(examples.turns):
        for turn in turns:
            text = turn["content"]
            if "<" not in text and "&" not in text:
                continue
            match = _HTML.search(_CODE.sub("", text) if "`" in text else text)
            if match:
                remains[position] = _around(match.string, match.start())
                break
    if len(remains) >= max(_USUAL * len(examples), 2):
        return []
    return by_split("html", remains, examples, excerpts=remains)


def _first_foreign(text: str) -> int:
    return next((place for place, letter in enumerate(text) if letter > "\x7f"), 0)


def _around(text: str, place: int) -> str:
    return shorten(_BROKEN.sub("\ufffd", text[max(0, place - 30) : place + 50]), 80)


NEARLY_ALL = 0.9  # share of answers that are JSON or have the same keys; above it, exceptions are mistakes
_FEWEST_JSON = 10
FEW = 0.05  # above this share, one-word answers are the task
_WORDS_USUAL = 4  # one-word answers are odd only if the median answer has at least this many words


def refused_rows(examples: Examples, _: Watch) -> list[Finding]:
    """Empty answers, and rows that are unusable for another reason."""
    refused: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for split, row, reason in examples.refused:
        if reason not in NO_MISTAKES:  # not a mistake: preference training learns from it
            kind = "empty_answer" if reason in (EMPTY_ANSWER, ONLY_THOUGHT) else "unusable"
            refused.setdefault((kind, split), []).append((row, reason))
    return [
        Finding(kind, split, [row for row, _ in rows], detail={"reasons": dict(Counter(why for _, why in rows))})
        for (kind, split), rows in refused.items()
    ]


def roles_out_of_order(examples: Examples, _: Watch) -> list[Finding]:
    disordered: dict[str, list[tuple[int, str]]] = {}
    for split, row, problem in examples.disordered:
        disordered.setdefault(split, []).append((row, problem))
    return [
        Finding("roles", split, [row for row, _ in rows], detail={"problems": dict(Counter(why for _, why in rows))})
        for split, rows in disordered.items()
    ]


def one_word_answers(examples: Examples, watch: Watch) -> list[Finding]:
    """One-word answers where nearly all others are longer. No finding if short answers (labels) are the task."""
    sizes = [len(answer.split(None, _WORDS_USUAL)) for _, answer in watch.over(examples.answers)]
    odd = [position for position, size in enumerate(sizes) if size == 1 and not _is_code(examples.answers[position])]
    usual = sorted(sizes)[len(sizes) // 2] if sizes else 0
    if not odd or len(odd) > FEW * len(sizes) or usual < _WORDS_USUAL:
        return []
    excerpts = {position: shorten(examples.answers[position], 40) for position in odd}
    return by_split("one_word_answer", odd, examples, excerpts=excerpts)


def json_answers(examples: Examples, watch: Watch) -> list[Finding]:
    """Invalid JSON where at least 90% of the answers are JSON, and objects that lack the keys and types shared by
    90%."""
    values: list[Any] = []
    for _, answer in watch.over(examples.answers):
        values.append(parse_json(answer))
    good = sum(value is not None for value in values)
    if good < max(_FEWEST_JSON, NEARLY_ALL * len(values)):
        return []
    broken = [position for position, value in enumerate(values) if value is None]
    excerpts = {position: shorten(examples.answers[position], 120) for position in broken}
    findings = by_split("broken_json", broken, examples, excerpts=excerpts)
    shapes = {position: _shape(value) for position, value in enumerate(values) if value is not None}
    usual, count = Counter(shapes.values()).most_common(1)[0]
    if count < NEARLY_ALL * len(shapes):
        return findings
    other = [position for position, shape in shapes.items() if shape != usual]
    excerpts = {
        position: f"{_differs(usual, shapes[position])}: {shorten(examples.answers[position], 100)}"
        for position in other
    }
    return findings + by_split("json_keys", other, examples, excerpts=excerpts, detail={"usual": dict(usual)})


def parse_json(text: str) -> Any:
    """The object or list in `text`; None for anything else."""
    return json_or(text, None) if text.lstrip()[:1] in ("{", "[") else None


def _shape(value: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(value, list):
        return (("", "list"),)
    return tuple(sorted((key, _type_name(cell)) for key, cell in value.items()))


def _type_name(cell: Any) -> str:
    if isinstance(cell, bool):
        return "true or false"
    if cell is None:
        return "null"
    return {str: "text", int: "number", float: "number", list: "list", dict: "object"}[type(cell)]


def _differs(usual: tuple[tuple[str, str], ...], shape: tuple[tuple[str, str], ...]) -> str:
    want, have = dict(usual), dict(shape)
    parts = [f"{key} is missing" for key in want if key not in have]
    parts += [f"{key} is new" for key in have if key not in want]
    parts += [f"{key} is {have[key]}" for key in want if key in have and have[key] != want[key]]
    return ", ".join(parts)


def _is_code(answer: str) -> bool:
    """Whether a single long word is code: JSON without spaces, an address or a code, not a placeholder."""
    return len(answer.strip()) > 25


_MOST_TRAIN, _MOST_ASKED = 20_000, 1_000
_FEWEST = 10  # prompts on each side
_NEAREST = 0.15  # TF-IDF cosine to the nearest training prompt below which a prompt may be uncovered
_RARE = 0.02  # share of the training prompts that are as far from all others as an uncovered prompt
_RELATED = 0.1  # cosine from which two uncovered prompts are related
_TOPIC = 3  # fewest related prompts in a topic; every random split has a few odd ones
_TERMS = 4
_PROMPTS_AT_ONCE = 100


def compare_prompts(train: Sequence[str], asked: Sequence[str], watch: Watch | None = None) -> CoverageJson:
    """How well the `train` prompts cover the `asked` ones.

    `vocabulary`: the share of words in `asked` that also occur in training, and the most common that do not. `length`:
    median and 95th percentile in words, on both sides. `topics`: clusters of the asked prompts by TF-IDF, with their
    most common terms and size. `covered` is False for topics of three or more related prompts that are unlike anything
    in training. `uncovered`: the indices of their prompts. A prompt is unlike training if its cosine to the nearest
    training prompt is below 0.15 and below that of 98% of the training prompts to their nearest neighbor.
    """
    watch = watch or Watch()
    train, asked = _thinned(train, _MOST_TRAIN), list(asked)
    topics, uncovered = _topics(train, asked, watch) if min(len(train), len(asked)) >= 2 else ([], [])
    return {
        "train_prompts": len(train),
        "asked_prompts": len(asked),
        "vocabulary": _vocabulary(train, asked),
        "length": {"train": _lengths(train), "asked": _lengths(asked)},
        "topics": topics,
        "uncovered": uncovered,
    }


def held_out_coverage(
    examples: Examples, watch: Watch, asked: Sequence[str] | None = None
) -> tuple[CoverageJson | None, list[Finding]]:
    """`compare_prompts` of the training prompts with the held-out ones, or with prompts `asked` in the real world. None
    if there are too few. `uncovered` becomes [split, row], or ["asked", index]."""
    prompts = examples.prompts
    train = examples.positions("train")
    if asked is not None:
        if not train or not asked:
            return None, []
        report = compare_prompts([prompts[position] for position in train], asked[:_MOST_ASKED], watch)
        report["uncovered"] = [["asked", index] for index in report["uncovered"]]
        return report, []
    held = [position for position, split in enumerate(examples.split) if split != "train"]
    held = _thinned(held, _MOST_ASKED)
    if min(len(train), len(held)) < _FEWEST:
        return None, []
    report = compare_prompts([prompts[position] for position in train], [prompts[p] for p in held], watch)
    outside = {held[index]: shorten(prompts[held[index]], 100) for index in report["uncovered"]}
    topics = [topic["terms"] for topic in report["topics"] if not topic["covered"]]
    findings = by_split("not_covered", outside, examples, excerpts=outside, detail={"topics": topics})
    report["uncovered"] = [list(examples.place(held[index])) for index in report["uncovered"]]
    return report, findings


def _vocabulary(train: Sequence[str], asked: Sequence[str]) -> VocabularyJson:
    known = {word for text in train for word in split_words(text)}
    words = Counter(word for text in asked for word in split_words(text))
    new = Counter({word: count for word, count in words.items() if word not in known and not word.isdigit()})
    total = sum(words.values())
    return {
        "covered": round(1 - sum(new.values()) / total, 4) if total else 1.0,
        "new_words": [word for word, _ in new.most_common(20)],
    }


def _lengths(texts: Sequence[str]) -> WordsJson:
    sizes = sorted(len(split_words(text)) for text in texts)
    if not sizes:
        return {"median_words": 0, "p95_words": 0}
    return {"median_words": sizes[len(sizes) // 2], "p95_words": sizes[int(0.95 * (len(sizes) - 1))]}


def _topics(train: Sequence[str], asked: Sequence[str], watch: Watch) -> tuple[list[TopicJson], list[int]]:
    """The topics of the `asked` prompts, the uncovered ones first, and the indices of the uncovered prompts."""
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

    vectorizer = TfidfVectorizer(
        tokenizer=split_words,
        token_pattern=None,
        lowercase=False,
        sublinear_tf=True,
        max_features=30_000,
        dtype=np.float32,
    )
    vectors = vectorizer.fit_transform([*train, *asked])
    known, wanted = vectors[: len(train)], vectors[len(train) :]
    nearest = _nearest(wanted, known, watch)
    own = np.arange(0, len(train), max(1, len(train) // 1000))
    usual = _nearest(known[own], known, watch, leave_out=own)
    bound = min(_NEAREST, float(np.quantile(usual, _RARE)))
    groups = [(members, False) for members in _related(wanted, np.flatnonzero(nearest < bound))]
    outside = sorted(int(place) for members, _ in groups for place in members)
    inside = np.setdiff1d(np.arange(len(asked)), outside)
    if len(inside):
        count = int(min(12, max(1, round((len(inside) / 5) ** 0.5))))
        labels = KMeans(count, n_init=2, max_iter=50, random_state=0).fit_predict(wanted[inside])
        groups += [(inside[labels == label], True) for label in range(count) if (labels == label).any()]
    names = vectorizer.get_feature_names_out()
    plain = np.array([name in ENGLISH_STOP_WORDS or len(name) < 3 or name.isdigit() for name in names])
    topics: list[TopicJson] = []
    for members, covered in groups:
        weights = np.where(plain, 0, np.asarray(wanted[members].mean(axis=0)).ravel())
        topics.append(
            {
                "terms": [str(names[place]) for place in np.argsort(-weights)[:_TERMS] if weights[place] > 0],
                "prompts": len(members),
                "covered": covered,
                "similarity": round(float(nearest[members].mean()), 3),
                "example": shorten(asked[int(members[np.argmin(nearest[members])])], 100),
            }
        )
    topics.sort(key=lambda topic: (topic["covered"], -topic["prompts"]))
    return topics, outside


def _related(vectors: Any, places: Any) -> list[Any]:
    """Groups of three or more related `places`."""
    import numpy as np
    from scipy.sparse.csgraph import connected_components

    if len(places) < _TOPIC:
        return []
    alike = (vectors[places] @ vectors[places].T) >= _RELATED
    count, labels = connected_components(alike, directed=False)
    return [places[labels == label] for label in range(count) if np.count_nonzero(labels == label) >= _TOPIC]


def _nearest(some: Any, known: Any, watch: Watch, leave_out: Any = None) -> Any:
    """The cosine of each row of `some` to the nearest row of `known`, excluding the row itself: `leave_out` are its
    places there."""
    import numpy as np

    best = np.zeros(some.shape[0], np.float32)
    for begin in range(0, some.shape[0], _PROMPTS_AT_ONCE):
        watch.at(begin, some.shape[0])
        products = (some[begin : begin + _PROMPTS_AT_ONCE] @ known.T).tocoo()
        if leave_out is not None:
            products.data[products.col == leave_out[begin : begin + _PROMPTS_AT_ONCE][products.row]] = 0
        best[begin : begin + _PROMPTS_AT_ONCE] = products.tocsr().max(axis=1).toarray().ravel()
    return best


def _thinned(items: Sequence[Any], most: int) -> list[Any]:
    step = max(1, -(-len(items) // most))
    return list(items[::step])


_MEASURED = 2000  # most rows that are encoded one by one
_BARS = 24
_COVERED = 0.995  # share of rows that fit the suggested length
_WORTH_PACKING = 0.25  # share of padding in batches of rows in file order
_BATCH = 16


def tool_calls(examples: Examples, watch: Watch) -> list[Finding]:
    """Calls that cannot be parsed, name an unlisted tool, or have arguments that violate the schema."""
    faults: dict[str, dict[int, str]] = {"call_broken": {}, "call_unlisted": {}, "call_schema": {}}
    for position, turns in watch.over(examples.turns):
        if not uses_tools(turns):
            continue
        tools = tools_of(turns)
        for turn in turns:
            if turn["role"] != "assistant" or "<tool_call>" not in turn["content"] or not is_trained(turn):
                continue
            parts = parts_of(turn["content"])
            for text in parts.broken:
                faults["call_broken"].setdefault(position, shorten(text))
            for call in parts.calls:
                fault = fault_of(call, tools)
                kind = "call_unlisted" if fault == UNLISTED else "call_schema"
                if fault:
                    faults[kind].setdefault(position, call.name if fault == UNLISTED else f"{call.name}: {fault}")
    return [finding for kind, rows in faults.items() for finding in by_split(kind, rows, examples, excerpts=rows)]


def _of_template(examples: Examples, tokenizer: Any) -> list[Finding]:
    """What the base's chat template does with tools and thoughts. The first row stands for all."""
    calling = [at for at, turns in enumerate(examples.turns) if uses_tools(turns)]
    thinking = [at for at, turns in enumerate(examples.turns) if thinks(turns)]
    findings = []
    if calling and not tool_facts_of(tokenizer).own:
        findings += by_split("tools_added", calling[:1], examples)
    if thinking and not tool_facts_of(tokenizer).kept:
        findings += by_split("thoughts_unseen", thinking, examples)
    if examples.turns and not examples.are_documents and not thinking and base_thinks(tokenizer):
        findings += by_split("no_thoughts", [0], examples)
    return findings


@dataclass
class Measured:
    """Lengths in tokens, as lists parallel to `positions`."""

    positions: list[int] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    completion: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    stopped: int = 0
    refused: dict[int, str] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> list[int]:
        return [prompt + completion for prompt, completion in zip(self.prompt, self.completion, strict=True)]


def token_lengths(
    examples: Examples, watch: Watch, tokenizer: Any, base: str, max_length: int, context: int | None = None
) -> tuple[TokensJson, list[Finding], set[int]]:
    """The facts about tokens (see `summary`), findings, and the positions of the rows that training leaves out.
    `context` is the context length of the base in tokens."""
    note = ensure_chat_template(tokenizer, thinking=most_think(examples.turns))
    # Long rows become a finding here; transformers' warning about the first one would confuse.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    chosen: Sequence[int] = range(len(examples))
    if len(examples) > _MEASURED:
        chosen = sorted(random.Random(0).sample(chosen, _MEASURED))
    measured = _measure(examples, chosen, watch, tokenizer)
    # Longer documents are split into windows for training.
    too_long = {
        position: length
        for position, length in (
            {} if examples.are_documents else _long_rows(examples, watch, tokenizer, max_length, measured)
        ).items()
        if length > max_length
    }
    empty = [p for p, trained in zip(measured.positions, measured.trained, strict=True) if not trained]
    excerpts = {position: f"{length:,} tokens" for position, length in too_long.items()}
    raised = _raised(list(too_long.values()), measured, max_length, context, len(examples))
    findings = by_split("too_long", too_long, examples, excerpts=excerpts, detail={"max_length": max_length})
    for finding in findings:
        of_split = [position for position in sorted(too_long) if examples.split[position] == finding.split]
        finding.detail["tokens"] = [too_long[position] for position in of_split]
        finding.detail |= raised
    reasons = dict(measured.refused)
    reasons |= dict.fromkeys(empty, "no token of the answer is trained")
    findings += by_split("no_trained_token", reasons, examples, excerpts=reasons)
    if measured.positions and not measured.stopped:
        findings += by_split("stop_token", measured.positions[:1], examples)
    if not facts_of(tokenizer).shows_system:
        unseen = {at: turns[0]["content"] for at, turns in enumerate(examples.turns) if turns[0]["role"] == "system"}
        findings += by_split(
            "system_unseen", unseen, examples, excerpts={at: shorten(text) for at, text in unseen.items()}
        )
    findings += _of_template(examples, tokenizer)
    tokens = summary(measured, max_length, base, of_documents=examples.are_documents)
    tokens |= {"rows": len(examples), "too_long": len(too_long), "no_trained_token": len(reasons)}
    remarks = [f"{text} ({counted(count, 'row')})" for text, count in measured.remarks.most_common(5)]
    tokens["notes"] = ([note] if note else []) + remarks
    tokens["context"] = context
    tokens |= raised
    if context and tokens.get("suggested_max_length", 0) > context:
        longer = sum(size > context for size in measured.total) / len(measured.total)
        tokens["suggested_max_length"] = context
        tokens["suggested_why"] = (
            f"max_length {context:,} is the context length of {base}, and {longer:.1%} of the rows are longer; a base "
            "with a longer context could learn from them"
        )
    return tokens, findings, {*too_long, *reasons}


def _raised(lengths: Sequence[int], measured: Measured, max_length: int, context: int | None, rows: int) -> RaisedJson:
    """`raise_to`, the multiple of 64 tokens that fits 99.5% of the rows (or, if that fits none of the too long rows,
    the longest the base can read), and its cost in words. Empty if the base can read none of the too long rows, or its
    context length is unknown. `lengths` are those of the too long rows."""
    if not context or not (readable := [length for length in lengths if length <= context]):
        return {}
    new = min(context, -(-max(readable) // 64) * 64)
    # Otherwise a few very long rows would decide how much memory training takes.
    if measured.total and min(readable) <= (usual := suggested_length(measured.total)) < new:
        new, readable = usual, [length for length in readable if length <= usual]
    within = [total for total in measured.total if total <= max_length]
    now = sum(within) * rows / max(1, len(measured.total))
    more = f"{sum(readable):,} tokens an epoch" + (f", {sum(readable) / now:.0%} more time" if now else "")
    left = len(lengths) - len(readable)
    cost = (
        f"{counted(len(readable), 'more row')} to train on ({more}); the longest batch has up to "
        f"{new / max_length:.1f} times the tokens and takes about as much more memory (a smaller batch_size "
        "compensates; preflight measures both)"
        + (f"; {left:,} rows are even longer (the base can read {context:,} tokens)" if left else "")
    )
    return {"raise_to": new, "raise_cost": cost, "context": context}


def summary(measured: Measured, max_length: int, base: str, *, of_documents: bool = False) -> TokensJson:
    """Lengths of prompts, completions and whole rows in tokens (whole rows only for documents), the share of trained
    tokens, and suggestions."""
    total = measured.total
    tokens: TokensJson = {"base": base, "max_length": max_length, "measured_rows": len(total)}
    if not total:
        return tokens
    if not of_documents:
        tokens |= {"prompt": distribution(measured.prompt), "completion": distribution(measured.completion)}
    tokens["whole"] = distribution(total)
    tokens["trained_share"] = round(sum(measured.trained) / max(1, sum(total)), 4)
    tokens["stop_token_trained"] = measured.stopped == len(total)
    tokens["suggested_max_length"] = suggested_length(total)
    held = sum(size <= tokens["suggested_max_length"] for size in total)
    share = "all rows" if held == len(total) else f"{held / len(total):.1%} of the rows"
    tokens["suggested_why"] = f"max_length {tokens['suggested_max_length']:,} would hold {share}"
    # Documents are split into windows of max_length for training.
    tokens["packing"] = _packing([min(size, max_length) for size in total] if of_documents else total)
    return tokens


def distribution(sizes: Sequence[int]) -> DistributionJson:
    """Mean, percentiles and a histogram: `counts[i]` rows have from `edges[i]` up to below `edges[i + 1]` tokens."""
    import numpy as np

    values = np.asarray(sizes)
    width = max(1, -(-(int(values.max()) + 1) // _BARS))
    edges = list(range(0, int(values.max()) + width + 1, width))
    counts, _ = np.histogram(values, edges)
    p50, p95, p99 = np.percentile(values, (50, 95, 99), method="inverted_cdf").astype(int).tolist()
    return {
        "mean": round(float(values.mean()), 1),
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "max": int(values.max()),
        "histogram": {"edges": edges, "counts": counts.tolist()},
    }


def suggested_length(total: Sequence[int]) -> int:
    """The smallest multiple of 64 tokens that fits 99.5% of the rows."""
    ordered = sorted(total)
    needed = ordered[min(len(ordered) - 1, int(_COVERED * len(ordered)))]
    return max(64, -(-needed // 64) * 64)


def _packing(total: Sequence[int]) -> PackingJson:
    batches = [total[begin : begin + _BATCH] for begin in range(0, len(total), _BATCH)]
    padding = 1 - sum(total) / sum(max(batch) * len(batch) for batch in batches)
    worth = padding > _WORTH_PACKING
    why = (
        f"{padding:.0%} of the tokens in batches of {_BATCH} would be padding; packing, or batches of similar "
        "length, saves that time"
        if worth
        else f"only {padding:.0%} of the tokens in batches of {_BATCH} would be padding"
    )
    return {"suggested": worth, "padding_share": round(padding, 3), "why": why}


def _measure(examples: Examples, chosen: Sequence[int], watch: Watch, tokenizer: Any) -> Measured:
    stops = facts_of(tokenizer).stop_ids
    measured = Measured()
    for place, position in enumerate(chosen):
        if place % 200 == 0:
            watch.at(place, len(chosen))
        try:
            encoded = encode(examples.turns[position], tokenizer)
        except InputError as error:
            measured.refused[position] = error.what
            continue
        measured.remarks.update(encoded.notes)
        trained = sum(encoded.trained)
        # The last answer is the completion; earlier answers of a conversation are part of its prompt.
        end = len(encoded.trained)
        while end and not encoded.trained[end - 1]:
            end -= 1
        start = end
        while start and encoded.trained[start - 1]:
            start -= 1
        measured.positions.append(position)
        measured.prompt.append(start)
        measured.completion.append(len(encoded.input_ids) - start)
        measured.trained.append(trained)
        measured.stopped += end > 0 and encoded.input_ids[end - 1] in stops | {tokenizer.eos_token_id}
    return measured


def _long_rows(examples: Examples, watch: Watch, tokenizer: Any, max_length: int, measured: Measured) -> dict[int, int]:
    """The token counts of the rows that may be longer than `max_length`, by position."""
    known = dict(zip(measured.positions, measured.total, strict=True))
    lengths = {position: length for position, length in known.items() if length > max_length}
    frame, most = _frame(examples, measured, tokenizer), _most_per_byte(examples, measured)
    unsure = [
        position
        for position, turns in watch.over(examples.turns)
        if position not in known and position not in measured.refused and _may_be_longer(turns, most, frame, max_length)
    ]
    for begin in range(0, len(unsure), _ROWS_AT_ONCE):
        watch.at(begin, len(unsure))
        piece, texts = [], []
        for position in unsure[begin : begin + _ROWS_AT_ONCE]:
            try:
                texts.append(render(examples.turns[position], tokenizer))
                piece.append(position)
            except InputError as error:
                measured.refused[position] = error.what
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        # If the template writes no stop token, `encode` adds it.
        lengths |= {position: len(tokens) for position, tokens in zip(piece, ids, strict=True)}
    return lengths


_ROWS_AT_ONCE = 1000


def _may_be_longer(turns: Sequence[Message], most: float, frame: int, max_length: int) -> bool:
    characters = sum(len(turn["content"]) for turn in turns)
    if 4 * characters + frame * len(turns) <= max_length:
        return False  # fits even at one token per byte
    texts = [turn["content"] for turn in turns]
    size = sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts)
    # Text without spaces and other scripts can have more tokens per byte than the sample.
    usual = most if all(text.isascii() for text in texts) and _is_prose(texts) else 1.0
    return usual * size + frame * len(turns) > max_length


def _is_prose(texts: Sequence[str]) -> bool:
    return all(text.count(" ") + text.count("\n") >= len(text) / 12 for text in texts if len(text) > 200)


def _most_per_byte(examples: Examples, measured: Measured) -> float:
    """The most tokens per byte in a row of the sample, plus a quarter; at most 1."""
    shares = [
        total / size
        for position, total in zip(measured.positions, measured.total, strict=True)
        if (size := sum(len(turn["content"].encode("utf-8", "replace")) for turn in examples.turns[position])) >= 100
    ]
    return min(1.0, 1.25 * max(shares)) if len(shares) >= 100 else 1.0


def _frame(examples: Examples, measured: Measured, tokenizer: Any) -> int:
    """An upper bound on the tokens that the template adds to each turn."""
    if not measured.positions:
        return 64
    turns = examples.turns[measured.positions[0]]
    bare = [turn if turn["role"] == TOOLS else {"role": turn["role"], "content": "a"} for turn in turns]
    return len(tokenizer(render(bare, tokenizer), add_special_tokens=False)["input_ids"]) + 8
