"""The plan of a blind test, registered when it opens. The verdict says whether it is unchanged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from ftlab.arena.controls import rule_text
from ftlab.arena.evidence import EARLY_LEVEL, PLANNED_LEVEL
from ftlab.arena.results import RegisteredJson
from ftlab.arena.store import answers, audit, contestants, prompts

# What is published about a contestant: its identity, no credentials.
ORIGIN = ("kind", "base", "run", "adapter_sha256", "strength", "system_prompt", "examples", "url", "model")
RULE = (
    "Two-sided exact sign test over prompts, by the majority of their votes, at the planned number of votes; or, at "
    "any time before, beta-binomial evidence of 1 / level. Several pairs share the levels (Bonferroni)."
)

RULE_OF_MARGIN = (
    "The second contestant is no worse if its win rate over prompts that chose a side is shown to be above 50% "
    "minus the margin: by a one-sided exact binomial test at the planned number of votes; or, at any time before, by "
    "evidence of 1 / level from the beta-binomial mixture over the rates above. Worse by more than the margin: the "
    "same, below."
)


def plan_of(connection: Connection, test: Row[Any]) -> dict[str, Any]:
    """Everything that could be chosen after the votes are known: contestants, prompts with a hash of each answer,
    settings, planned votes, rule, control items. A live test, whose raters write the prompts, has no prompts here."""
    among = connection.execute(
        select(contestants).where(contestants.c.test_id == test.id).order_by(contestants.c.position)
    ).all()
    asked: Sequence[Row[Any]] = ()
    texts = {}
    if not test.settings["live"]:
        asked = connection.execute(select(prompts).where(prompts.c.test_id == test.id).order_by(prompts.c.number)).all()
        query = select(answers.c.prompt_id, answers.c.contestant_id, answers.c.text).select_from(answers.join(prompts))
        for prompt, contestant, text in connection.execute(query.where(prompts.c.test_id == test.id)):
            texts[prompt, contestant] = hashlib.sha256(text.encode()).hexdigest()
    rule: dict[str, Any] = {
        "text": RULE_OF_MARGIN if test.settings.get("margin") else RULE,
        "level_planned": PLANNED_LEVEL,
        "level_early": EARLY_LEVEL,
    }
    if of_raters := rule_text(test.settings):
        rule["raters"] = of_raters
    number = {prompt.id: prompt.number for prompt in asked}
    items = test.plan or {}
    controls = {
        "attention": [[number.get(prompt), right, other] for prompt, right, other, _ in items.get("attention", ())],
        "repeated": sorted(number.get(prompt, 0) for prompt in items.get("repeated", ())),
    }
    return {
        "contestants": [
            {"title": who.title, **{name: who.spec[name] for name in ORIGIN if name in who.spec}} for who in among
        ],
        "prompts": [
            {
                "number": prompt.number,
                "messages": prompt.messages,
                "topic": prompt.topic,
                "answers_sha256": [texts.get((prompt.id, who.id)) for who in among],
            }
            for prompt in asked
        ],
        "settings": test.settings,
        "planned_votes": test.planned_votes,
        "rule": rule,
        **({"controls": controls} if any(controls.values()) else {}),
    }


def plan_text(plan: dict[str, Any]) -> str:
    """`plan` in the canonical form whose SHA-256 is registered."""
    return json.dumps(plan, sort_keys=True, ensure_ascii=False, indent=1) + "\n"


def plan_hash(connection: Connection, test: Row[Any]) -> str:
    """The SHA-256 of the current plan of `test`."""
    return hashlib.sha256(plan_text(plan_of(connection, test)).encode()).hexdigest()


def registered(connection: Connection, test: Row[Any]) -> RegisteredJson | None:
    """The last registration before the first vote, and whether it still holds. None for a test that has not opened, or
    that opened with an ftlab that registered nothing."""
    query = select(audit.c.at, audit.c.detail).where(audit.c.test_id == test.id).order_by(audit.c.at.desc())
    event = next((row for row in connection.execute(query) if row.detail.get("plan")), None)
    if event is None:
        return None
    return {
        "sha256": event.detail["plan"],
        "at": event.at,
        "kept": plan_hash(connection, test) == event.detail["plan"],
    }
