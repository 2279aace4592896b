"""Views of rows: a page of them as in the source, and one of them as the model reads it."""

from __future__ import annotations

import functools
import re
from typing import Any

from markupsafe import Markup

from ftlab.config import DataConfig, OptimisationConfig
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.prompt_template import cell_as_text
from ftlab.data.shapes import is_trained
from ftlab.errors import FtlabError, shorten
from ftlab.ui.background import ensure
from ftlab.ui.kit.html import count, error_box, heading, join, list_items, pick_button, table

PAGE_ROWS = 10
_CELL = 6000  # characters of one cell of the displayed row


def page_count(inspection: Any, split: str | None) -> int:
    return max(1, -(-_rows_in(inspection, split)[1] // PAGE_ROWS))


def _used_first(inspection: Any) -> list[str]:
    """The columns, starting with those that training reads: a phone shows the first two."""
    return sorted(inspection.columns, key=lambda column: not _parts(inspection, column))


def page_table(inspection: Any, page: int, row: int, split: str | None, search: str) -> Markup:
    """One page of the source, or of the rows that contain `search`. The button with a row's number opens it."""
    offset = (page - 1) * PAGE_ROWS
    name, size = _rows_in(inspection, split)
    if search.strip():
        hits = inspection.search(search, offset, PAGE_ROWS, split=name)
        numbered = list(zip(hits.indices, hits.rows, strict=True))
        where = _hits_in_words(search, page, offset, hits, name)
    else:
        numbered = list(enumerate(inspection.page(offset, PAGE_ROWS, name), start=offset))
        last = offset + len(numbered) - 1
        pages = page_count(inspection, name)
        where = f"Rows {offset:,} to {last:,} of {size:,} in the source ({name}), page {page:,} of {pages:,}. "
    columns = _used_first(inspection)
    cells = [
        [
            pick_button(number, str(number), label=f"Show row {number}", current=number == row),
            *[values.get(column, "") for column in columns],
        ]
        for number, values in numbered
    ]
    help = where + ("Press a row's number to see what the model reads." if numbered else "")
    body = table(["row", *columns], cells, label="Rows of the data set", css="ft-rows") if numbered else ""
    return heading("Rows", help) + body


def _hits_in_words(search: str, page: int, offset: int, hits: Any, split: str) -> str:
    quoted = f"“{shorten(search.strip(), 40)}”"
    if not hits.rows:
        if offset:
            return f"No more rows with {quoted} in {split}: {hits.total or 0:,} in total. "
        return f"No row of {split} contains {quoted}. "
    total = f"of {hits.total:,}" if hits.total is not None else "and there are more"
    return f"Rows of {split} with {quoted}, {offset + 1:,} to {offset + len(hits.rows):,} {total}, page {page:,}. "


def row_card(
    config: DataConfig, workspace: Workspace, row: int, split: str | None, base: str, max_length: int | None
) -> Markup:
    """Row `row` of the source: its cells, and the tokens that the model reads, with the trained ones marked.

    `config` may differ from the inspected data, to preview a change of columns, system prompt or template. Errors in it
    or in the row replace the tokens.
    """
    from ftlab.data.inspection import glance

    inspection = glance(config, workspace)
    name, size = _rows_in(inspection, split)
    if not size:
        return Markup("")
    row = min(row, size - 1)
    cells = join(
        Markup('<dt><code>{}</code>{}</dt><dd class="ft-text">{}</dd>').format(
            column, _part(inspection, column), _clipped(cell_as_text(value))
        )
        for column, value in inspection.row(row, name).items()
    )
    source = heading(f"Row {row:,} of {name}") + Markup('<dl class="ft-cells" id="data_cells">{}</dl>').format(cells)
    try:
        read = _as_tokens(inspection.messages(row, name), base, max_length or OptimisationConfig().max_length)
    except FtlabError as error:
        read = heading("As the model reads it") + error_box(error)
    return Markup('<div class="ft-two ft-row-card"><div>{}</div><div>{}</div></div>').format(source, read)


def _as_tokens(messages: Any, base: str, max_length: int) -> Markup:
    from ftlab.data.conversion import is_document
    from ftlab.data.rendering import encode, stop_token_ids, windows
    from ftlab.data.tool_calls import thinks

    tokenizer = tokenizer_of(base, thinking=thinks(messages))
    encoded = encode(messages, tokenizer)
    length, trained = len(encoded.input_ids), sum(encoded.trained)
    stops = set(stop_token_ids(tokenizer))
    learned = [t for t, on in zip(encoded.input_ids, encoded.trained, strict=True) if on and t in stops]
    if is_document(messages):
        cut = len(windows(encoded, max_length))
        lines = [
            f"{count(length)} tokens of {base}, without a chat template. All are trained: this is plain text, for "
            "continued pretraining.",
            f"The end-of-text token {tokenizer.eos_token} after it is trained, so the model learns where a text ends.",
        ]
        if cut > 1:
            lines.append(f"It is longer than max_length ({max_length:,} tokens) and is learned in {cut:,} pieces.")
        return _token_card([*lines, *encoded.notes], encoded, tokenizer)
    lines = [
        f"{count(length)} tokens in the chat template of {base}. The {count(trained)} marked ones are trained; "
        "the others are only read."
    ]
    if learned:
        lines.append(f"The stop token {tokenizer.decode(learned[-1:])} is trained, so the model learns to end.")
    else:
        lines.append("No stop token is trained here: the model would not learn when to end.")
    if context := sum(not is_trained(turn) for turn in messages):
        lines.append(f"{counted(context, 'answer')} with weight 0: not trained, only read.")
    lines += encoded.notes
    if length > max_length:
        lines.append(f"It is longer than max_length ({max_length:,} tokens) and would be left out of training.")
    return _token_card(lines, encoded, tokenizer)


def _token_card(lines: list[str], encoded: Any, tokenizer: Any) -> Markup:
    """The tokens with the trained ones marked; the first line describes them, the others follow below."""
    from ftlab.data.rendering import pieces

    notes = list_items(lines[1:])
    return (
        heading("As the model reads it", lines[0])
        + Markup('<pre class="ft-pre ft-tokens" id="data_tokens" tabindex="0" aria-label="tokens">{}</pre>').format(
            _spans(pieces(encoded, tokenizer), tokenizer)
        )
        + Markup('<ul class="ft-notes">{}</ul>').format(notes)
    )


def _spans(runs: list[tuple[str, bool]], tokenizer: Any) -> Markup:
    """The text with the trained runs marked and the special tokens set apart."""
    special = sorted({*tokenizer.all_special_tokens, *map(str, tokenizer.get_added_vocab())}, key=len, reverse=True)
    pattern = re.compile("(" + "|".join(map(re.escape, filter(None, special))) + ")") if special else None

    def parts(text: str) -> Markup:
        pieces = pattern.split(text) if pattern else [text]
        return join(
            Markup('<b class="ft-special">{}</b>').format(piece) if i % 2 else Markup("{}").format(piece)
            for i, piece in enumerate(pieces)
        )

    return join(Markup("<mark>{}</mark>" if on else "<span>{}</span>").format(parts(text)) for text, on in runs)


@functools.lru_cache(maxsize=4)
def tokenizer_of(base: str, *, thinking: bool = False) -> Any:
    """The tokenizer of `base` as training prepares it; `thinking` enables its thinking mode, if it has one."""
    ensure("transformers")
    from ftlab.data.rendering import ensure_chat_template
    from ftlab.models.bases.get import is_kept_here
    from ftlab.models.load import load_tokenizer

    if not is_kept_here(base, otherwise=True):  # a page does not wait for a download that nobody requested
        raise FtlabError(
            f"The base {base} is not on this machine yet, so its tokens cannot be shown",
            try_=f"press Start training on the Train tab, which gets it first, or run: python -m ftlab base get {base}",
        )
    tokenizer = load_tokenizer(base)
    if thinking:
        ensure_chat_template(tokenizer, thinking=True)
    return tokenizer


def _rows_in(inspection: Any, split: str | None) -> tuple[str, int]:
    """The split being paged through (default: the training split) and its rows in the source."""
    splits = inspection.source_splits
    if split is None or split not in splits:
        split = "train" if "train" in splits else str(next(iter(splits), "train"))
    return split, splits.get(split, 0)


def _part(inspection: Any, column: str) -> Markup:
    return join(Markup(' <span class="ft-badge ft-info">{}</span>').format(part) for part in _parts(inspection, column))


def _parts(inspection: Any, column: str) -> list[str]:
    """The roles of a column."""
    detected = inspection.detected
    parts = [part for part, name in detected.columns.items() if name == column] if detected else []
    also = detected is not None and detected.choices is not None and column in detected.choices.columns
    return [*parts, "choices"] if also and "choices" not in parts else parts


def _clipped(text: str) -> str:
    return text if len(text) <= _CELL else text[:_CELL] + f" … ({len(text) - _CELL:,} more characters)"
