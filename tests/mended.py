"""What remedies make of plain rows, without a version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ftlab.data.remedies import Action, Rows, plan_for


def apply_all(rows: Rows, actions: Sequence[Action]) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """The rows after all `actions`, whose indices refer to `rows`, and the sentences about them."""
    plan = plan_for(rows, actions)
    after: dict[str, list[dict[str, Any]]] = {split: [] for split in rows}
    for split, every in rows.items():
        for place, row in (((split, index), row) for index, row in enumerate(every)):
            if place not in plan.gone:
                after[plan.moved.get(place, split)].append(plan.changed.get(place, row))
    return after, plan.sentences


def apply(rows: Rows, action: Action) -> tuple[dict[str, list[dict[str, Any]]], str]:
    after, sentences = apply_all(rows, [action])
    return after, " ".join(sentences)
