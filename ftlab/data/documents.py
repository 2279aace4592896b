"""Plain text for continued pretraining: the loss covers every token of a document.

A document takes the place of a conversation: a list with one message, whose role is `document`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Message = dict[str, str]

DOCUMENT = "document"

# How plain-text files separate documents; TinyStories and others write GPT-2's end-of-text token.
_END_OF_TEXT = re.compile(r"^[ \t]*<\|endoftext\|>[ \t]*$", re.MULTILINE)
_LINE_END = re.compile("\n")
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


def document(text: str) -> list[Message]:
    """`text` as the messages of an example."""
    return [{"role": DOCUMENT, "content": text}]


def is_document(messages: Sequence[Mapping[str, Any]]) -> bool:
    return len(messages) == 1 and messages[0]["role"] == DOCUMENT


def read_text(raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict[str, list[dict[str, str]]], list[str]]:
    """The documents of a plain-text file, as rows with the column `text`.

    They are separated by lines with <|endoftext|>, else by blank lines; else every line is one. Raises InputError if
    the file is not text or exceeds `limits.check_rows`, which takes the `size` of the original file.
    """
    from ftlab.data.limits import check_rows
    from ftlab.data.tabular import decode

    text = decode(raw, name, notes).replace("\r\n", "\n").replace("\r", "\n")
    if _END_OF_TEXT.search(text):
        between, parted = _END_OF_TEXT, "lines with <|endoftext|>"
    elif _BLANK_LINES.search(text.strip()):
        between, parted = _BLANK_LINES, "blank lines"
    else:
        between, parted = _LINE_END, "line breaks"
    documents: list[str] = []
    for part in _parts(text, between):
        if part.strip():
            documents.append(part.strip("\n"))
            if len(documents) % 10_000 == 0:
                check_rows(name, len(documents), size)
    notes.append(
        f"{name} is plain text: {len(documents):,} documents, separated by {parted}. For longer documents, put a line "
        "<|endoftext|> between them, or write JSON Lines with a column `text`."
    )
    return {"train": [{"text": part} for part in documents]}, ["text"]


def _parts(text: str, between: re.Pattern[str]) -> Iterator[str]:
    """`between.split(text)` as an iterator."""
    position = 0
    for match in between.finditer(text):
        yield text[position : match.start()]
        position = match.end()
    yield text[position:]
