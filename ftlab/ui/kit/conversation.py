"""A conversation with two models at once: what each was asked and answered, and its HTML."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from ftlab.data.tool_calls import next_turn, parts_of
from ftlab.models.strength import AS_TRAINED, strength_name
from ftlab.ui.kit.html import copy_js, empty, join

SIDES = {"base": "Base", "adapted": "Adapted"}

# {"user": str, "base": str, "adapted": str, "note": str, "strength": float of the adapted model}; if answers can be
# voted on also "id", "run", "temperature", "prompts" (the turns that each side was given), "thumbs", "better"
Turn = dict[str, Any]
# A press raises "vote" (with the button's value) or "ask" (where models answer), so a vote never waits for an answer.
CHAT_JS = (
    copy_js(".ft-pane", ".ft-text")
    + """
element.addEventListener('click', event => {
  const act = event.target.closest('[data-act]');
  if (!act) return;
  const asks = act.dataset.act.startsWith('ask') || act.dataset.act === 'again';
  trigger(asks ? 'ask' : 'vote', {value: act.dataset.act});
});
"""
)
AFRESH = "The strength changed. Both models start over and see none of the turns above."


def same_strength(turns: list[Turn], strength: float) -> list[Turn]:
    """The latest `turns` in which the adapted model had this `strength`. At another strength it is another model, which
    would imitate the earlier answers."""
    first = next((n for n in range(len(turns), 0, -1) if turns[n - 1].get("strength", AS_TRAINED) != strength), 0)
    return turns[first:]


def history(turns: list[Turn]) -> dict[str, list[dict[str, str]]]:
    """Each side's own conversation: what it was asked, what its tools replied, and what it answered itself."""
    by_side: dict[str, list[dict[str, str]]] = {side: [] for side in SIDES}
    for turn in turns:
        for side, messages in by_side.items():
            messages += [next_turn(messages, turn["user"]), {"role": "assistant", "content": turn[side]}]
    return by_side


def conversation(turns: list[Turn], *, busy: bool = False, votes: bool = False) -> Markup:
    """The conversation. Answers are text, never markup. `votes` adds buttons below the answers (CHAT_JS)."""
    if not turns:
        return empty("Both models are ready.", "Write a message below. The answers appear side by side.")
    drawn = (
        _turn(turn, busy=busy and turn is turns[-1], number=number if votes and not busy else None,
              last=number == len(turns) - 1)
        for number, turn in enumerate(turns)
    )  # fmt: skip
    return Markup(
        '<div class="ft-chat ft-content" role="log" aria-label="Conversation" aria-busy="{}">{}</div>'
    ).format("true" if busy else "false", join(drawn))


def can_choose(turn: Turn) -> bool:
    """Whether a person can pick the better answer: both sides were given the same turns, and the answers differ."""
    prompts = turn.get("prompts")
    same = prompts is not None and prompts["base"] == prompts["adapted"]
    return same and bool(turn["base"] != turn["adapted"])


def _turn(turn: Turn, *, busy: bool, number: int | None, last: bool) -> Markup:
    same = not busy and turn["base"] == turn["adapted"]
    panes = join(
        Markup(
            '<div class="ft-pane ft-pane-{0}" data-side="{0}"><div class="ft-pane-name">{1}</div>'
            '<div class="ft-text">{2}{3}</div>{4}</div>'
        ).format(
            side,
            _named(name, turn) if side == "adapted" else name,
            turn[side] or ("" if busy else "(nothing)"),
            Markup('<span class="ft-caret" aria-hidden="true"></span>') if busy else "",
            _votes(turn, side, number) if number is not None else "",
        )
        for side, name in SIDES.items()
    )
    note = turn["note"] or ("Both gave the same answer." if same else "")
    if number and not same and turn.get("prompts") and not can_choose(turn):
        note = f"{note} From the second message on, each model has a conversation of its own: rate each by itself."
    below = ""
    if number is not None and last:
        below = Markup('<div class="ft-acts">{}{}</div>').format(
            _act("again", "Regenerate", "Generate new answers to this message"),
            _act("edit", "Edit message", "Move the last message back to the box"),
        )
    return Markup(
        '<article class="ft-turn"><div class="ft-said"><span class="ft-pane-name">You</span>'
        '<div class="ft-text">{}</div></div><div class="ft-panes">{}</div><p class="ft-help">{}</p>{}</article>'
    ).format(turn["user"], panes, note, below)


def _votes(turn: Turn, side: str, number: int) -> Markup:
    """Buttons below one answer: rate it, pick it as the better one, copy it."""
    parts = []
    if turn.get("prompts") and turn[side]:
        known = (turn.get("thumbs") or {}).get(side)
        for name, good, sign, says in (("up", True, "Good", "good"), ("down", False, "Bad", "bad")):
            parts.append(_act(f"{name}:{number}:{side}", sign, f"{SIDES[side]}: {says} answer", pressed=known is good))
        if can_choose(turn):
            better = turn.get("better") == side
            parts.append(_act(f"better:{number}:{side}", "Better", f"{SIDES[side]} is better", pressed=better))
    copy = Markup('<button type="button" class="ft-act" data-copy aria-label="Copy the answer of {}">Copy</button>')
    return Markup('<div class="ft-acts">{}{}</div>').format(join(parts), copy.format(SIDES[side]))


def _act(value: str, text: str, label: str, *, pressed: bool | None = None) -> Markup:
    state = "" if pressed is None else Markup(' aria-pressed="{}"').format("true" if pressed else "false")
    return Markup('<button type="button" class="ft-act" data-act="{}" aria-label="{}"{}>{}</button>').format(
        value, label, state, text
    )


def _named(name: str, turn: Turn) -> str:
    return ", ".join(filter(None, [name, strength_name(turn.get("strength", AS_TRAINED))]))


def note(answer: Any) -> str:
    """The note below two answers: what was left out or cut."""
    notes = list(answer.notes)
    calls = {side: [call.name for call in parts_of(getattr(answer, side)).calls] for side in SIDES}
    if answer.done and any(calls.values()):
        made = " and ".join(
            f"{SIDES[side].lower()} called {', '.join(names)}" for side, names in calls.items() if names
        )
        rest = "" if all(calls.values()) else " The other model reads it as your message."
        notes.append(f"{made[:1].upper()}{made[1:]}: type what the tool replies.{rest}")
    if answer.cut:
        names = " and ".join(SIDES[side].lower() for side in answer.cut)
        notes.append(f"Cut at the longest answer allowed ({names}). Raise the limit in the settings below.")
    return " ".join(notes)
