"""A conversation with two models at once: what each was asked and answered, and how it is drawn."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from ftlab.models.strength import AS_TRAINED, strength_name
from ftlab.ui.kit.html import empty, join

SIDES = {"base": "Base", "adapted": "Adapted"}

Turn = dict[str, Any]  # {"user": str, "base": str, "adapted": str, "note": str, "strength": float of the adapted model}
AFRESH = "The strength changed: both models start afresh and read none of the turns above."


def same_strength(turns: list[Turn], strength: float) -> list[Turn]:
    """The last of `turns`, as far as the adapted model had this `strength`: at another one it is another model, which
    would copy what this one said."""
    first = next((n for n in range(len(turns), 0, -1) if turns[n - 1].get("strength", AS_TRAINED) != strength), 0)
    return turns[first:]


def history(turns: list[Turn]) -> dict[str, list[dict[str, str]]]:
    """Each side's own conversation: what it was asked and what it answered itself."""
    return {
        side: [
            message
            for turn in turns
            for message in ({"role": "user", "content": turn["user"]}, {"role": "assistant", "content": turn[side]})
        ]
        for side in SIDES
    }


def conversation(turns: list[Turn], *, busy: bool = False) -> Markup:
    """The conversation; answers are text, never markup."""
    if not turns:
        return empty("Both models are listening.", "Write a message below: the answers appear side by side.")
    return Markup('<div class="ft-chat" role="log" aria-label="Conversation" aria-busy="{}">{}</div>').format(
        "true" if busy else "false",
        join(_turn(turn, busy=busy and turn is turns[-1]) for turn in turns),
    )


def _turn(turn: Turn, *, busy: bool) -> Markup:
    same = not busy and turn["base"] == turn["adapted"]
    panes = join(
        Markup(
            '<div class="ft-pane ft-pane-{0}" data-side="{0}"><div class="ft-pane-name">{1}</div>'
            '<div class="ft-text">{2}{3}</div></div>'
        ).format(
            side,
            _named(name, turn) if side == "adapted" else name,
            turn[side] or ("" if busy else "(nothing)"),
            Markup('<span class="ft-caret" aria-hidden="true"></span>') if busy else "",
        )
        for side, name in SIDES.items()
    )
    note = turn["note"] or ("Both gave the same answer." if same else "")
    return Markup(
        '<article class="ft-turn"><div class="ft-said"><span class="ft-pane-name">You</span>'
        '<div class="ft-text">{}</div></div><div class="ft-panes">{}</div><p class="ft-help">{}</p></article>'
    ).format(turn["user"], panes, note)


def _named(name: str, turn: Turn) -> str:
    return ", ".join(filter(None, [name, strength_name(turn.get("strength", AS_TRAINED))]))


def note(answer: Any) -> str:
    """What is to be said below two answers: what was left out or cut."""
    notes = list(answer.notes)
    if answer.cut:
        names = " and ".join(SIDES[side].lower() for side in answer.cut)
        notes.append(f"Cut at the longest answer allowed ({names}); raise it in the settings below.")
    return " ".join(notes)
