"""Track what a page already shows, so that an event sends only what is new.

A text box that receives any value reports a change, and the browser processes everything that it receives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any


def digest(value: Any) -> str:
    """A short digest of what `value` shows."""
    return hashlib.sha256(repr(value).encode()).hexdigest()


def digests(updates: Mapping[Any, Any]) -> dict[str, str]:
    """Digests of what a page shows after receiving `updates` {component: update}. Keep them in a gr.State."""
    return {str(component._id): digest(value) for component, value in updates.items()}


def only_new(updates: Mapping[Any, Any], known: Mapping[str, str]) -> dict[Any, Any]:
    """The `updates` that a page does not show yet, according to `known`, its digests."""
    now = digests(updates)
    return {
        component: value
        for component, value in updates.items()
        if known.get(str(component._id)) != now[str(component._id)]
    }


def build_with(updates: Mapping[Any, Any]) -> dict[str, str]:
    """Put `updates` into components that are being built, so that a page opens with them; returns their `digests`."""
    for component, update in updates.items():
        settings = update if isinstance(update, dict) else {"value": update}
        for name, value in settings.items():
            if name != "__type__":
                setattr(component, name, value)
    return digests(updates)


def unsaid(updates: Mapping[Any, Any], present: Mapping[Any, Any]) -> dict[Any, Any]:
    """`updates` without values that repeat what the page sent in `present` {component: value}.

    A slow reply that repeats a choice would undo a newer choice by a person or a quicker reply.
    """

    def without(component: Any, update: Any) -> Any:
        if not isinstance(update, dict) or "value" not in update or component not in present:
            return update
        if update["value"] != present[component]:
            return update
        return {name: value for name, value in update.items() if name != "value"}

    return {component: without(component, update) for component, update in updates.items()}
