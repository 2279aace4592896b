"""Ask the Hugging Face Hub whether something is there: once, quickly, with a clear answer when it does not answer."""

from __future__ import annotations

import os
import threading
from typing import Any, Literal

from ftlab.errors import InputError, shorten

# The Hub's own clients try six times, 23 to 47 seconds in all, before they say that there is no network (measured).
PATIENCE_SECONDS = 8.0


class Unreachable(InputError):
    """The Hub does not answer, or may not be asked: nothing is known about what was named."""


def is_offline() -> bool:
    """Whether the environment forbids the network."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "TRUE", "YES", "ON") for name in names)


def newest_commit(kind: Literal["model", "dataset"], name: str, revision: str | None = None) -> str:
    """The commit that `name` (owner/name) is at now.

    Raises InputError within about 8 seconds when the Hub cannot be reached, knows no such thing, or asks for access.
    """
    what = "base model" if kind == "model" else "data set"
    answer: dict[str, Any] = {}

    def ask() -> None:
        try:
            from huggingface_hub import HfApi

            info = HfApi().model_info if kind == "model" else HfApi().dataset_info
            answer["sha"] = info(name, revision=revision, timeout=PATIENCE_SECONDS - 2).sha
        except Exception as error:  # handed to the thread that waits, which explains it
            answer["error"] = error

    # In a thread of its own, as looking up a host name cannot be given a time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    if "sha" in answer:
        return answer["sha"]
    error = answer.get("error")
    if error is None:
        raise unreachable(what, name, TimeoutError(f"no answer within {PATIENCE_SECONDS:.0f} seconds"))

    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        raise InputError(
            f"The {what} {name} is open only to people who were given access",
            given=name,
            try_="ask for access on its page on the Hub, then log in with: hf auth login",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        raise InputError(f"The {what} {name} has no such revision", given=revision)
    if isinstance(error, errors.RepositoryNotFoundError):
        raise InputError(
            f"There is no {what} {name} on the Hugging Face Hub, and nothing of that name here",
            given=name,
            try_="check the spelling (owner/name); if it is private, log in with: hf auth login",
        )
    if isinstance(error, errors.HFValidationError):
        raise InputError(f"This is not the id of a {what} on the Hub", given=name, allowed="owner/name")
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore"):
        raise unreachable(what, name, error)
    raise error


def unreachable(what: str, name: str, error: Exception) -> Unreachable:
    """The one message for a Hub that does not answer."""
    if is_offline():
        return Unreachable(
            f"The Hugging Face Hub cannot be reached: HF_HUB_OFFLINE is set and {name} was not downloaded before",
            given=name,
            try_=f"unset HF_HUB_OFFLINE where there is a network, or use a {what} that is on this machine",
        )
    return Unreachable(
        f"The Hugging Face Hub cannot be reached ({shorten(error, 120)})",
        given=f"{name}, which is nothing on this machine, so it is taken for a {what} on the Hub",
        try_=f"check the network, or use a {what} that is on this machine; "
        "what was downloaded before is used with HF_HUB_OFFLINE=1",
    )
