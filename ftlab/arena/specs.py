"""What a blind test is made of, and what is refused before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ftlab.data.partition import prompt_fingerprint
from ftlab.errors import InputError

CHOICES = ("left", "right", "both_good", "both_bad", "skip")
CRITERIA = ("overall", "correctness", "completeness", "style", "safety")
KINDS = ("base", "run", "endpoint")
STATES = ("draft", "generating", "ready", "open", "closed")


@dataclass(frozen=True)
class ContestantSpec:
    """Who answers. `spec`: {"kind": "base"|"run"|"endpoint", "base", "run", "adapter_sha256", "strength" (of a run that
    is not used as trained), "system_prompt", "examples", "url", "model"}, as far as they apply."""

    title: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class PromptSpec:
    """What is asked: messages of role and content, the last one a person's. `reference`: a known good answer."""

    messages: list[dict[str, str]]
    topic: str | None = None
    reference: str | None = None


@dataclass(frozen=True)
class TestSettings:
    """How answers are made and votes are asked for; the same for all contestants.

    `votes_per_prompt` raters see a prompt, for the share `overlap` of the prompts; the others are seen by one.
    """

    __test__: ClassVar[bool] = False  # not a test of pytest

    generation: dict[str, Any]
    options: tuple[str, ...] = CHOICES
    rubric: tuple[str, ...] = ("overall",)
    instructions: str = ""
    votes_per_prompt: int = 1
    overlap: float = 1.0
    live: bool = False


def check(
    title: str,
    contestants: Sequence[ContestantSpec],
    prompts: Sequence[PromptSpec],
    settings: TestSettings,
    planned_votes: int,
) -> None:
    """Raises InputError for what cannot be tested, naming what is allowed."""
    if not title.strip():
        raise InputError("The test has no title", try_="give it one; raters do not see it")
    if len(contestants) < 2:
        raise InputError("A blind test compares at least two contestants", given=len(contestants), allowed="2 or more")
    titles = [one.title.strip() for one in contestants]
    if len(set(titles)) < len(titles) or not all(titles):
        raise InputError("Every contestant needs a title of its own", given=", ".join(titles))
    for one in contestants:
        if one.spec.get("kind") not in KINDS:
            raise InputError(f"{one.title} is of no known kind", given=one.spec.get("kind"), allowed=", ".join(KINDS))
    if settings.live:
        if prompts:
            raise InputError("In a live test the raters write the prompts", given=f"{len(prompts)} prompts")
    elif not prompts:
        raise InputError("The test has no prompts", try_="take some from the held-out split, a file, or paste them")
    for number, prompt in enumerate(prompts, 1):
        if not prompt.messages or prompt.messages[-1].get("role") == "assistant":
            raise InputError(f"Prompt {number} asks nothing: its last message is not a person's")
    prints = [prompt_fingerprint(prompt.messages) for prompt in prompts]
    if len(set(prints)) < len(prints):
        double = next(number for number, one in enumerate(prints, 1) if one in prints[: number - 1])
        raise InputError(f"Prompt {double} is in the test twice", try_="leave one of them out")
    unknown = [option for option in settings.options if option not in CHOICES]
    if unknown or not {"left", "right"} <= set(settings.options):
        raise InputError(
            "These options cannot be offered",
            given=", ".join(settings.options),
            allowed=f"left, right, and any of {', '.join(CHOICES[2:])}",
        )
    unknown = [criterion for criterion in settings.rubric if criterion not in CRITERIA]
    if unknown:
        raise InputError("There is no such criterion", given=", ".join(unknown), allowed=", ".join(CRITERIA))
    if settings.votes_per_prompt < 1:
        raise InputError(
            "Each prompt needs a vote", given=settings.votes_per_prompt, allowed="1 or more votes per prompt"
        )
    if not 0 <= settings.overlap <= 1:
        raise InputError("The overlap is a share of the prompts", given=settings.overlap, allowed="0 to 1")
    if planned_votes < 1:
        raise InputError("The planned number of votes is too small", given=planned_votes, allowed="1 or more")
    possible = capacity(len(contestants), len(prompts), settings)
    if possible is not None and planned_votes > possible:
        raise InputError(
            "More votes are planned than the test can give",
            given=f"{planned_votes} votes planned",
            allowed=f"at most {possible}, from {len(prompts)} prompts",
            try_="add prompts, or ask for more votes per prompt",
        )


def capacity(contestants: int, prompts: int, settings: TestSettings) -> int | None:
    """The most votes that a test can give; None for a live test, which has no end."""
    if settings.live:
        return None
    pairs = contestants * (contestants - 1) // 2
    shared = round(prompts * settings.overlap)
    return pairs * (shared * settings.votes_per_prompt + prompts - shared)
