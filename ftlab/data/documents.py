"""Plain text for continued pretraining: a document is learnt as a whole, every token of it.

A document stands where other data have a conversation: as a list with one message, whose role is `document`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, str]

DOCUMENT = "document"
STAGE = "pretraining"  # the stage that learns documents (config.RunConfig.stage)

# How files of plain text part their documents; TinyStories and others write the end-of-text token of GPT-2.
_END_OF_TEXT = re.compile(r"^[ \t]*<\|endoftext\|>[ \t]*$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


def document(text: str) -> list[Message]:
    """`text` as the messages of an example."""
    return [{"role": DOCUMENT, "content": text}]


def is_document(messages: Sequence[Mapping[str, Any]]) -> bool:
    return len(messages) == 1 and messages[0]["role"] == DOCUMENT


def read_text(raw: bytes, name: str, notes: list[str]) -> tuple[dict[str, list[dict[str, str]]], list[str]]:
    """The documents of a file of plain text, as rows of the column `text`.

    They are parted by lines that say <|endoftext|>, else by blank lines, else every line is one. Raises InputError
    when the file is not text.
    """
    from ftlab.data.delimited import decode

    text = decode(raw, name, notes).replace("\r\n", "\n").replace("\r", "\n")
    if _END_OF_TEXT.search(text):
        parts, parted = _END_OF_TEXT.split(text), "lines that say <|endoftext|>"
    elif _BLANK_LINES.search(text.strip()):
        parts, parted = _BLANK_LINES.split(text), "blank lines"
    else:
        parts, parted = text.split("\n"), "the ends of lines"
    documents = [part.strip("\n") for part in parts if part.strip()]
    notes.append(
        f"{name} is plain text: {len(documents):,} documents, parted by {parted}. For longer documents put a line "
        "<|endoftext|> between them, or write JSON lines with a column text."
    )
    return {"train": [{"text": one} for one in documents]}, ["text"]
