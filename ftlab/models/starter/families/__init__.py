"""The families of the starter's text, in the order of the model card."""

from __future__ import annotations

from ftlab.models.starter.families import (
    facts,
    fields,
    list_tasks,
    new_words,
    numbers,
    stories,
    talk,
    text_tasks,
    word_tasks,
)
from ftlab.models.starter.families.draft import Draft, Family, Message

FAMILIES: tuple[Family, ...] = (
    *facts.FAMILIES,
    *word_tasks.FAMILIES,
    *list_tasks.FAMILIES,
    *numbers.FAMILIES,
    *text_tasks.FAMILIES,
    *fields.FAMILIES,
    *talk.FAMILIES,
    *stories.FAMILIES,
    *new_words.FAMILIES,
)

__all__ = ["FAMILIES", "Draft", "Family", "Message"]
