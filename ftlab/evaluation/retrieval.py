"""Retrieval as a side: the nearest training rows, or passages of documents, precede each question.

TF-IDF over character n-grams finds them (scikit-learn, already a dependency): it needs no second model, and works in
any language. Rows of the test split are never shown, nor are training rows that are copies or near copies of a held-out
question (`ftlab.data.near`) or contain its long answer: they would give the answer away. Passages are shown regardless
of their content, since documents are supposed to contain the answers.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from ftlab.core.comparison import SourceJson
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted
from ftlab.data.shapes import Message
from ftlab.data.tool_calls import TOOLS
from ftlab.errors import InputError
from ftlab.evaluation.embeddings import Vector
from ftlab.evaluation.material import Material

INDEX = "TF-IDF over character n-grams of 2 to 4 within words, cosine"
Embed = Callable[[Sequence[str]], list[Vector]]
_MOST_ROWS = 50_000  # of training; the same limit as for memorization
_BATCH = 256  # questions
_FEWEST_WORDS = 5  # of a question to match in documents: "How?" occurs in many
_BETWEEN = "\n\n---\n\n"  # passages and question: a rule, independent of language


@dataclass(frozen=True)
class Retrieval:
    """The `count` nearest of the `examples` precede each question. `nearest` holds their indices by question text, the
    nearest first. `left_out`: training rows that are copies of a held-out question. `seconds`: search time per
    question. With `documents`, an example is one turn with a passage, placed in the question's turn."""

    count: int
    examples: tuple[tuple[Message, ...], ...] = field(repr=False)
    nearest: Mapping[str, tuple[int, ...]] = field(repr=False)
    left_out: int
    seconds: float
    documents: tuple[SourceJson, ...] = ()
    notes: tuple[str, ...] = ()
    index: str = INDEX

    @property
    def thing(self) -> str:
        """What precedes a question."""
        return "passage" if self.documents else "training row"

    def described(self) -> str:
        of = f" of {counted(len(self.documents), 'document')}" if self.documents else ""
        things = f"{self.thing}{'' if self.count == 1 else 's'}"
        return f"{self.count} nearest {things}{of} before each question"

    def fitted(self, messages: Sequence[Message], fits: Callable[[list[Message]], bool]) -> tuple[list[Message], int]:
        """`messages` with as many of the nearest rows as fit, the nearest one last, and their number."""
        from ftlab.data.partition import prompt_text

        places = self.nearest.get(prompt_text(messages), ())
        for count in range(len(places), 0, -1):
            prompted = self._before(messages, places[:count])
            if fits(prompted):
                return prompted, count
        return list(messages), 0

    def _before(self, messages: Sequence[Message], places: Sequence[int]) -> list[Message]:
        if self.documents:
            passages = [turn["content"] for place in reversed(places) for turn in self.examples[place]]
            last = max((at for at, turn in enumerate(messages) if turn["role"] == "user"), default=0)
            asked = {**messages[last], "content": _BETWEEN.join([*passages, messages[last]["content"]])}
            return [*messages[:last], asked, *messages[last + 1 :]]
        head = [turn for turn in messages if turn["role"] in ("system", TOOLS)]
        examples = [turn for place in reversed(places) for turn in self.examples[place]]
        return [*head, *examples, *(turn for turn in messages if turn["role"] not in ("system", TOOLS))]


def retrieval_of(run: RunDirectory, material: Material, count: int, embed: Embed | None = None) -> Retrieval:
    """The `count` training rows of `run` nearest to each row of `material`, by TF-IDF or by the vectors from `embed`.
    Raises InputError if there are none, and as `embed` does."""
    from ftlab.data.partition import prompt_text

    rows = _rows_of(run)
    texts = [prompt_text(row["messages"]) for row in rows]
    questions = [prompt_text(row["messages"]) for row in material.rows]
    copies = _copies(rows, texts, material, questions)
    try:
        nearest, seconds = _nearest(texts, questions, count, copies, embed)
    except ValueError:  # no n-gram in any of them
        raise InputError("The training rows hold no text to search", given=f"run {run.id}") from None
    examples = tuple(
        tuple(
            {"role": t["role"], "content": t["content"]} for t in row["messages"] if t["role"] not in ("system", TOOLS)
        )
        for row in rows
    )
    return Retrieval(min(count, len(rows) - len(copies)), examples, nearest, len(copies), seconds)


def _rows_of(run: RunDirectory) -> Sequence[Mapping[str, Any]]:
    """The training rows that can be retrieved. Raises InputError if there are none."""
    from ftlab.data.splits import read_split

    rows = [row for row in read_split(run, "train") if row.get("source") != "replay" and row.get("label") is not False]
    if not rows:
        raise InputError(
            "There are no training rows to retrieve", given=f"run {run.id}", allowed="evaluation.retrieved=0"
        )
    return rows[:_MOST_ROWS]


def texts_of(run: RunDirectory, material: Material, places: Sequence[str]) -> list[str]:
    """Every text that an index of the documents at `places`, or of the training rows of `run`, compares with the
    questions, plus the questions. Raises InputError as retrieval does."""
    from ftlab.data.documents import find_documents, read_passages
    from ftlab.data.partition import prompt_text

    questions = [prompt_text(row["messages"]) for row in material.rows]
    if places:
        return [*(passage.whole for passage in read_passages(find_documents(places), [])[0]), *questions]
    return [*(prompt_text(row["messages"]) for row in _rows_of(run)), *questions]


def passages_near(places: Sequence[str], material: Material, count: int, embed: Embed | None = None) -> Retrieval:
    """The `count` passages of the documents at `places` (files and folders) nearest to each row of `material`, by
    TF-IDF or by the vectors from `embed`. Raises InputError for a path without a document, and documents without a
    passage, and as `embed` does."""
    from ftlab.data.documents import find_documents, read_passages
    from ftlab.data.partition import prompt_text

    notes: list[str] = []
    passages, documents = read_passages(find_documents(places), notes)
    questions = [prompt_text(row["messages"]) for row in material.rows]
    nearest, seconds = _nearest([passage.whole for passage in passages], questions, count, set(), embed)
    text = _words(" ".join(passage.text for passage in passages))
    if held := sum(
        len((words := _words(question)).split()) >= _FEWEST_WORDS and words in text for question in questions
    ):
        notes.append(
            f"{held} of {len(questions)} held-out questions stand word for word in the documents. If the documents "
            "were made from these rows, retrieval was shown their answers."
        )
    per_document = Counter(passage.document for passage in passages)
    sources: tuple[SourceJson, ...] = tuple(
        {"name": document.name, "sha256": document.sha256, "passages": per_document[document.name]}
        for document in documents
    )
    turns = tuple(({"role": "user", "content": passage.whole},) for passage in passages)
    return Retrieval(min(count, len(passages)), turns, nearest, 0, seconds, sources, tuple(notes))


def _words(text: str) -> str:
    """The words of `text`, each surrounded by spaces."""
    return " ".join(["", *re.findall(r"[^\W_]+", text.lower()), ""])


def _nearest(
    texts: Sequence[str], questions: Sequence[str], count: int, never: Set[int], embed: Embed | None
) -> tuple[dict[str, tuple[int, ...]], float]:
    """The indices of the `count` of `texts` nearest to each question, without those that are `never` shown, and the
    seconds per question. Raises ValueError if `texts` hold nothing to search."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import linear_kernel

    each = embed([*texts, *questions]) if embed else []
    began, asked = time.monotonic(), each[len(texts) :]
    if each:
        table, sought = np.stack([vector.values for vector in each[: len(texts)]]), np.stack([v.values for v in asked])
    else:
        vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, dtype=np.float32)
        table = vectors.fit_transform(texts)
        sought = vectors.transform(questions)
    nearest: dict[str, tuple[int, ...]] = {}
    for start in range(0, len(questions), _BATCH):
        batch = questions[start : start + _BATCH]
        for number, scores in enumerate(linear_kernel(sought[start : start + len(batch)], table), start):
            ranked = (int(place) for place in (-scores).argsort(kind="stable") if place not in never)
            nearest[questions[number]] = tuple(itertools.islice(ranked, count))
    took = time.monotonic() - began + sum(vector.seconds for vector in asked)
    return nearest, took / max(1, len(questions))


def _copies(
    rows: Sequence[Mapping[str, Any]], texts: Sequence[str], material: Material, questions: Sequence[str]
) -> set[int]:
    """The indices of the training rows that are copies or near copies of a held-out question, or contain its answer."""
    from ftlab.data.near import near_pairs
    from ftlab.data.rendering import reference

    answers = [reference(row["messages"]) for row in rows]
    copies: set[int] = set()
    # Every question with a copy is in a pair, but not with each of its copies: repeat without those found.
    while left := [place for place in range(len(rows)) if place not in copies]:
        pairs = near_pairs(
            [*(texts[place] for place in left), *questions],
            [*(answers[place] for place in left), *material.references],
            sides=[0] * len(left) + [1] * len(questions),
            across=True,
        )
        more = {left[trained] for trained, _, _ in pairs}
        if not more:
            break
        copies |= more
    return copies
