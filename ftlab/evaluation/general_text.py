"""Texts that have nothing to do with the task: how many bits per byte they take before and after tuning."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.config import DataConfig, RunConfig
from ftlab.config_evaluation import names, sized
from ftlab.errors import FtlabError
from ftlab.evaluation.affordable import evenly
from ftlab.evaluation.documents import Pieces, cut_documents
from ftlab.evaluation.probes import was_replayed

if TYPE_CHECKING:
    from ftlab.data.conversion import Message

LONGEST_WINDOW = 1024  # tokens that are read at once at most, so that the memory needed does not grow with the context
MOST_ROWS = 200  # rows that are read; more would take longer and say the same


DOCUMENTS, CHAT = "general", "general_chat"  # what the two forms are called; their measures end in bits_per_byte


@dataclass
class GeneralText:
    """Texts of one form, cut into windows: documents, which count as a whole, or conversations, whose answers do.

    `kinds` tells of every kind of text whether it was replayed in training (None: not known).
    """

    pieces: Pieces = field(default_factory=lambda: Pieces([], [], []))
    kinds: dict[str, bool | None] = field(default_factory=dict)


def load_general_text(
    config: RunConfig, tokenizer: Any, *, context: int | None, replayed: frozenset[str] | None = frozenset()
) -> tuple[dict[str, GeneralText], str | None]:
    """The texts that `config.evaluation.general_text` names, cut into windows of at most `context` tokens, and a note.

    Documents and conversations apart, by DOCUMENTS and CHAT; empty when nothing is named. The losses of the windows
    become those of texts by `losses_of_documents`, and bits per byte by `sizes`. `replayed` are the kinds that were
    trained. A text that cannot be read must not cost the comparison on the task, so that is a note and not an error.
    """
    from ftlab.data.documents import is_document

    found: dict[str, GeneralText] = {}
    notes: list[str] = []
    length = min(context or LONGEST_WINDOW, LONGEST_WINDOW)
    named = config.resolved().evaluation.general_text or ""
    for source in [named] if Path(named).is_file() else names(named):
        if source.lower() == "none":
            continue
        try:
            texts, kinds, said = _read(source, config.data.system_prompt)
        except FtlabError as error:
            notes.append(f"General language was not measured: {error.message()}")
            continue
        if sized(source)[0] in config.data.replayed:
            notes.append(f"The general text {source} is replayed: it was trained, so it shows no forgetting.")
        notes += [said] if said else []
        form = found.setdefault(DOCUMENTS if all(map(is_document, texts)) else CHAT, GeneralText())
        _add(form.pieces, _cut(texts, tokenizer, length))
        form.kinds |= {kind: was_replayed(kind, replayed) for kind in kinds}
    return found, " ".join(notes) or None


def _read(source: str, system_prompt: str | None) -> tuple[list[list[Message]], list[str], str | None]:
    """The texts, their kinds where the data name them, and a note."""
    from ftlab.data.conversion import UnusableRow, to_messages
    from ftlab.data.load import load_rows
    from ftlab.data.splits import detect_format
    from ftlab.errors import InputError

    name, most = sized(source)
    data = DataConfig(source=name, system_prompt=system_prompt)
    loaded = load_rows(data)
    detected = detect_format(loaded, data)
    rows = loaded.splits["test" if "test" in loaded.splits else loaded.main]
    numbers = range(len(rows))
    drawn: Sequence[int] = sorted(random.Random(0).sample(numbers, MOST_ROWS)) if len(rows) > MOST_ROWS else numbers
    if most is not None:
        drawn = evenly(numbers, [row.get("kind") for row in rows], most)
    texts, refused = [], 0
    kinds: dict[str, None] = {}
    for number in drawn:
        row = rows[number]
        try:
            messages = to_messages(row, detected, system_prompt)
        except UnusableRow:
            refused += 1
            continue
        if any(message["content"].strip() for message in _counted(messages)):
            texts.append(messages)
            kinds |= {kind: None} if isinstance(kind := row.get("kind"), str) else {}
        else:
            refused += 1
    if not texts:
        raise InputError("The general text holds nothing to read", given=source)
    notes = []
    if len(drawn) < len(rows):
        how = "drawn evenly over their kinds" if most else "drawn with seed 0"
        notes.append(f"{len(drawn)} of {len(rows):,} rows of {loaded.name} were read, {how}.")
    if refused:
        notes.append(f"{refused} of {len(drawn)} rows of {loaded.name} hold no text and were left out.")
    return texts, list(kinds), " ".join(notes) or None


def _add(pieces: Pieces, more: Pieces) -> None:
    pieces.owner.extend(len(pieces.sizes) + owner for owner in more.owner)
    pieces.windows.extend(more.windows)
    pieces.sizes.extend(more.sizes)


def _cut(texts: list[list[Message]], tokenizer: Any, length: int) -> Pieces:
    from ftlab.data.documents import is_document
    from ftlab.data.rendering import encode, windows

    if all(is_document(messages) for messages in texts):
        return cut_documents([messages[0]["content"] for messages in texts], tokenizer, length)
    found = Pieces([], [], [])
    for number, messages in enumerate(texts):
        found.sizes.append(sum(len(one["content"].encode("utf-8", "replace")) for one in _counted(messages)))
        for window in windows(encode(messages, tokenizer), length):
            found.windows.append(window)
            found.owner.append(number)
    return found


def _counted(messages: list[Message]) -> list[Message]:
    """The turns whose tokens count: see `encode`."""
    return [message for message in messages if message["role"] in ("assistant", "document")]
