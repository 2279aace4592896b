"""A text that has nothing to do with the task: how many bits per byte it takes before and after tuning."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from ftlab.config import DataConfig, RunConfig
from ftlab.errors import FtlabError
from ftlab.evaluation.documents import Pieces, cut_documents

if TYPE_CHECKING:
    from ftlab.data.conversion import Message

LONGEST_WINDOW = 1024  # tokens that are read at once at most, so that the memory needed does not grow with the context
MOST_ROWS = 200  # rows that are read; more would take longer and say the same


def load_general_text(config: RunConfig, tokenizer: Any, *, context: int | None) -> tuple[Pieces | None, str | None]:
    """The text that `config.evaluation.general_text` names, cut into windows of at most `context` tokens, and a note.

    None when nothing is named. Documents count as a whole, of conversations the answers do. The losses of the windows
    become those of documents by `losses_of_documents`, and bits per byte by `sizes`. A text that cannot be read must
    not cost the comparison on the task, so that is a note and not an error.
    """
    source = config.resolved().evaluation.general_text
    if source is None or source.lower() in ("none", ""):
        return None, None
    try:
        texts, note = _read(source, config.data.system_prompt)
        if source in config.data.replayed:
            replayed = f"The general text {source} is replayed: it was trained, so it shows no forgetting."
            note = f"{replayed} {note}" if note else replayed
        length = min(context or LONGEST_WINDOW, LONGEST_WINDOW)
        return _cut(texts, tokenizer, length), note
    except FtlabError as error:
        return None, f"General language was not measured: {error.message()}"


def _read(source: str, system_prompt: str | None) -> tuple[list[list[Message]], str | None]:
    from ftlab.data.conversion import UnusableRow, to_messages
    from ftlab.data.load import load_rows
    from ftlab.data.splits import detect_format
    from ftlab.errors import InputError

    data = DataConfig(source=source, system_prompt=system_prompt)
    loaded = load_rows(data)
    detected = detect_format(loaded, data)
    rows = loaded.splits["test" if "test" in loaded.splits else loaded.main]
    numbers = range(len(rows))
    drawn = sorted(random.Random(0).sample(numbers, MOST_ROWS)) if len(rows) > MOST_ROWS else numbers
    texts, refused = [], 0
    for number in drawn:
        try:
            messages = to_messages(rows[number], detected, system_prompt)
        except UnusableRow:
            refused += 1
            continue
        if any(message["content"].strip() for message in _counted(messages)):
            texts.append(messages)
        else:
            refused += 1
    if not texts:
        raise InputError("The general text holds nothing to read", given=source)
    notes = []
    if len(drawn) < len(rows):
        notes.append(f"{len(drawn)} of {len(rows):,} rows of {loaded.name} were read, drawn with seed 0.")
    if refused:
        notes.append(f"{refused} of {len(drawn)} rows of {loaded.name} hold no text and were left out.")
    return texts, " ".join(notes) or None


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
