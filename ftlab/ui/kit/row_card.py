"""One row of data, large enough to judge: columns as text, conversations as turns, and an edit form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ftlab.data.curation import Change, editable, read_edited
from ftlab.data.turns import is_context
from ftlab.data.version_store import VersionRow
from ftlab.errors import InputError
from ftlab.ui.kit.html import badge, details, join, list_items
from ftlab.ui.kit.word_diff import marked

_MOST_SHOWN = 100_000  # characters of a cell

# Buttons in the card raise "act" with their action; "keep" carries the boxes that were changed, as [column, text,
# number of the turn in a conversation].
CARD_JS = """
element.addEventListener('click', event => {
  const pressed = event.target.closest('[data-do]');
  if (!pressed) return;
  if (pressed.dataset.do === 'keep') {
    const boxes = [...element.querySelectorAll('textarea[data-column]')];
    const cells = boxes.filter(box => box.value !== box.defaultValue)
      .map(box => [box.dataset.column, box.value, box.dataset.turn ?? null]);
    trigger('keep', {cells});
  } else trigger('act', {value: pressed.dataset.do});
});
// Keys, unless somebody writes. They press the buttons, so that both do the same.
if (!window.ftlabCurateKeys) {
  window.ftlabCurateKeys = true;
  // What is being typed is in no draft yet: leaving the page asks first.
  window.addEventListener('beforeunload', event => {
    const boxes = [...document.querySelectorAll('#data_curate_row .ft-edit textarea')];
    if (boxes.some(box => box.value !== box.defaultValue)) event.preventDefault();
  });
  const buttons = {g: 'good', b: 'bad', u: 'none', e: 'edit', n: 'next', ArrowRight: 'next', p: 'previous',
    ArrowLeft: 'previous'};
  document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    const place = document.querySelector('#data_curate_row');
    if (!place || !place.offsetParent || place.querySelector('.ft-edit')) return;
    const focus = document.activeElement;
    const box = focus && focus.closest('#data_curate_reason, #data_curate_note, #data_curate_number');
    const done = event.key === 'Escape' || (event.key === 'Enter' && !event.shiftKey);
    if (box && done) setTimeout(() => focus.blur(), 0);
    const writes = 'input:not([type=checkbox]), textarea, select, [contenteditable=true], [role=tablist], pre';
    if (focus && focus.closest(writes)) return;
    if (event.key === 'x') {
      event.preventDefault();
      document.querySelector('#data_curate_reason textarea, #data_curate_reason input')?.focus();
    } else if (buttons[event.key]) {
      event.preventDefault();
      document.querySelector('#data_curate_' + buttons[event.key])?.click();
    }
  });
}
"""


@dataclass(frozen=True)
class Seen:
    """A row as a person sees it: the saved row with unsaved changes on top."""

    saved: VersionRow
    change: Change | None
    who: str
    history: tuple[str, ...] = ()  # what earlier versions changed in it

    @property
    def now(self) -> VersionRow:
        return self.change.to(self.saved, self.who) if self.change else self.saved


def card(seen: Seen, columns: Sequence[str], place: str) -> Markup:
    row = seen.now
    head = Markup(
        '<div class="ft-row-head"><h3 class="ft-h">Row {}</h3><span class="ft-help">{}</span>{}</div>'
    ).format(row.id, place, join(_badges(seen)))
    left_out = (
        Markup('<p class="ft-help">Left out of training: {}.</p>').format(row.excluded.rstrip("."))
        if row.excluded
        else ""
    )
    names = list(dict.fromkeys([*columns, *row.cells]))
    cells = join(_cell(name, row.cells.get(name), seen) for name in names)
    return Markup('<section class="ft-card ft-judged" data-row="{}">{}{}{}{}</section>').format(
        row.id, head, left_out, cells, _remarks(seen)
    )


def form(seen: Seen, columns: Sequence[str]) -> Markup:
    """Every column as a text box. Changes come back with the event `keep`."""
    row = seen.now
    boxes = join(_boxes(name, row.cells.get(name)) for name in dict.fromkeys([*columns, *row.cells]))
    return Markup(
        '<section class="ft-card ft-judged ft-edit" data-row="{}"><h3 class="ft-h">Edit row {}</h3>{}'
        '<div class="ft-actions"><button type="button" class="ft-press ft-press-first" data-do="keep">'
        "Keep these changes</button>"
        '<button type="button" class="ft-press" data-do="cancel">Cancel</button></div></section>'
    ).format(row.id, row.id, boxes)


def _boxes(name: str, value: Any) -> Markup:
    """The boxes of one column. A conversation has one per turn, with its JSON collapsed below."""
    turns = plain_turns(value)
    if turns is None:
        return _box(name, _kind_of(value), value)
    boxes = join(_box(f"{name}, {turn[0]}", "", turn[1], name, number) for number, turn in enumerate(turns))
    hint = Markup("{} as JSON, to add or remove a turn").format(name)
    return boxes + details(hint, _box(name, _kind_of(value), value))


def _box(label: str, kind: Markup | str, value: Any, column: str | None = None, turn: int | None = None) -> Markup:
    text = readable(value)
    number = Markup(' data-turn="{}"').format(turn) if turn is not None else ""
    return Markup(
        # The HTML parser drops one line break after the tag.
        '<label class="ft-edit-cell"><span class="ft-cell-name">{}{}</span>'
        '<textarea data-column="{}"{} rows="{}" spellcheck="false" dir="auto">\n{}</textarea></label>'
    ).format(label, kind, column or label, number, _lines(text), text)


def plain_turns(value: Any) -> list[tuple[str, str, str]] | None:
    """[(the speaker, text, the key of the text)] of a conversation in which every turn is text, else None."""
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        return None
    for role, key in (("role", "content"), ("from", "value")):
        if all(role in turn and isinstance(turn.get(key), str) for turn in value):
            return [(_speaker(turn, role), turn[key], key) for turn in value]
    return None


def with_edits(before: VersionRow, now: dict[str, Any], typed: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """The cells edited in a row's form. `typed` holds [column, text, turn or None], `now` the row's current cells.

    Raises InputError for invalid JSON, and for a conversation that was edited both as turns and as JSON.
    """
    cells: dict[str, Any] = {}
    whole = {column for column, _, turn in typed if turn is None}
    for column, text, turn in typed:
        if turn is None:
            # The saved value determines the type of a cell, so that repeated edits do not drift.
            cells[column] = read_edited(column, text, before.cells.get(column))
            continue
        turns = plain_turns(now.get(column))
        if column in whole or turns is None or not 0 <= int(turn) < len(turns):
            raise InputError(
                f"The column {column} was edited both as turns and as JSON",
                try_="undo one of the edits, then keep the changes",
            )
        cells.setdefault(column, [dict(message) for message in now[column]])[int(turn)][turns[int(turn)][2]] = text
    return cells


def cell(value: Any) -> Markup:
    """A cell as text: a conversation as its turns, other structures as JSON."""
    turns = _turns(value)
    if turns:
        return join(
            Markup('<div class="ft-turn-of"><span class="ft-pane-name">{}</span>{}</div>').format(role, _text(content))
            for role, content in turns
        )
    if value is None or value == "":
        return Markup('<div class="ft-help">(nothing)</div>')
    if isinstance(value, str):
        return _text(value)
    return Markup('<pre class="ft-pre">{}</pre>').format(readable(value)[:_MOST_SHOWN])


def readable(value: Any) -> str:
    """A cell as text that can be sent to a page. Replaces lone surrogates, which cannot be encoded."""
    return editable(value).encode("utf-8", "replace").decode()


def _cell(name: str, value: Any, seen: Seen) -> Markup:
    changed = seen.change is not None and name in seen.change.cells
    before = ""
    if changed:
        old, new = marked(readable(seen.saved.cells.get(name)), readable(value))
        before = details(
            "What you changed",
            Markup('<div class="ft-two"><div class="ft-text">{}</div><div class="ft-text">{}</div></div>').format(
                old, new
            ),
        )
    return Markup('<div class="ft-cell"><div class="ft-cell-name">{}{}</div>{}{}</div>').format(
        name, Markup(" {}").format(badge("edited, not saved", "warn")) if changed else "", cell(value), before
    )


def _badges(seen: Seen) -> list[Markup]:
    row = seen.now
    badges = [badge(row.split, "info")]
    if row.mark:
        badges.append(badge(row.mark, row.mark))
    if row.excluded:
        badges.append(badge("excluded", "warn"))
    if seen.change:
        badges.append(badge("not saved yet", "warn"))
        badges.append(
            Markup(
                '<button type="button" class="ft-pick" data-do="undo" '
                'aria-label="Undo unsaved changes to row {}">Take back</button>'
            ).format(row.id)
        )
    return badges


def _remarks(seen: Seen) -> Markup:
    lines = [*seen.now.notes, *seen.history]
    if not lines:
        return Markup("")
    return Markup(
        '<div class="ft-cell"><div class="ft-cell-name">Notes and history</div><ul class="ft-notes">{}</ul>{}'
    ).format(list_items(lines), Markup("</div>"))


def _turns(value: Any) -> list[tuple[str, Any]] | None:
    """[(role, content)] if `value` is a conversation."""
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        return None
    for role, key in (("role", "content"), ("from", "value")):
        if all(role in turn and (key in turn or "tool_calls" in turn) for turn in value):
            return [
                (
                    _speaker(turn, role),
                    turn[key]
                    if key in turn and len(turn) == 2
                    else _with_rest(
                        turn.get(key), turn.keys() - {role, key} - ({"weight"} if is_context(turn) else set()), turn
                    ),
                )
                for turn in value
            ]
    return None


def _speaker(turn: dict[str, Any], role: str) -> str:
    return f"{turn[role]}, not trained" if is_context(turn) else str(turn[role])


def _with_rest(content: Any, others: set[str], turn: dict[str, Any]) -> Any:
    rest = {name: turn[name] for name in turn if name in others and turn[name] is not None}
    return f"{readable(content)}\n{json.dumps(rest, ensure_ascii=False, default=str)}" if rest else content


def _text(value: Any) -> Markup:
    text = readable(value)
    cut = Markup('<p class="ft-help">{:,} more characters are not shown.</p>').format(len(text) - _MOST_SHOWN)
    return Markup('<div class="ft-text ft-cell-text" dir="auto">{}</div>{}').format(
        text[:_MOST_SHOWN] or "(nothing)", cut if len(text) > _MOST_SHOWN else ""
    )


def _kind_of(value: Any) -> Markup | str:
    if value is None or isinstance(value, str):
        return ""
    return Markup(' <span class="ft-help">as JSON</span>')


def _lines(text: str) -> int:
    return min(16, max(1, sum(1 + len(line) // 80 for line in text.split("\n"))))
