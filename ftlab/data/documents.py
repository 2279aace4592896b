"""Plain text for continued pretraining: a document is learnt as a whole, every token of it.

A document stands where other data have a conversation: as a list with one message, whose role is `document`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Message = dict[str, str]

DOCUMENT = "document"

# How files of plain text part their documents; TinyStories and others write the end-of-text token of GPT-2.
_END_OF_TEXT = re.compile(r"^[ \t]*<\|endoftext\|>[ \t]*$", re.MULTILINE)
_LINE_END = re.compile("\n")
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


def document(text: str) -> list[Message]:
    """`text` as the messages of an example."""
    return [{"role": DOCUMENT, "content": text}]


def is_document(messages: Sequence[Mapping[str, Any]]) -> bool:
    return len(messages) == 1 and messages[0]["role"] == DOCUMENT


def read_text(raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict[str, list[dict[str, str]]], list[str]]:
    """The documents of a file of plain text, as rows of the column `text`.

    They are parted by lines that say <|endoftext|>, else by blank lines, else every line is one. Raises InputError
    when the file is not text, or is beyond `limits.check_rows`, of which `size` is the size of the file it came in.
    """
    from ftlab.data.limits import check_rows
    from ftlab.data.tabular import decode

    text = decode(raw, name, notes).replace("\r\n", "\n").replace("\r", "\n")
    if _END_OF_TEXT.search(text):
        between, parted = _END_OF_TEXT, "lines that say <|endoftext|>"
    elif _BLANK_LINES.search(text.strip()):
        between, parted = _BLANK_LINES, "blank lines"
    else:
        between, parted = _LINE_END, "the ends of lines"
    documents: list[str] = []
    for part in _parts(text, between):
        if part.strip():
            documents.append(part.strip("\n"))
            if len(documents) % 10_000 == 0:
                check_rows(name, len(documents), size)
    notes.append(
        f"{name} is plain text: {len(documents):,} documents, parted by {parted}. For longer documents put a line "
        "<|endoftext|> between them, or write JSON lines with a column text."
    )
    return {"train": [{"text": one} for one in documents]}, ["text"]


def _parts(text: str, between: re.Pattern[str]) -> Iterator[str]:
    """As `between.split(text)`, one after the other."""
    position = 0
    for match in between.finditer(text):
        yield text[position : match.start()]
        position = match.end()
    yield text[position:]
