"""The Hugging Face Hub: check quickly what is there, and turn every error of the Hub into one clear message."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from typing import Any, Literal

from ftlab.errors import FtlabError, InputError, shorten

# The Hub's own clients retry six times, for 23 to 47 seconds, before they report that there is no network (measured).
PATIENCE_SECONDS = 8.0


class Unreachable(InputError):
    """The Hub does not answer, or offline mode forbids asking it: nothing is known about the name."""


def is_offline() -> bool:
    """Whether the environment forbids the network."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "TRUE", "YES", "ON") for name in names)


def newest_commit(kind: Literal["model", "dataset"], name: str, revision: str | None = None) -> str:
    """The current commit of `name` (owner/name).

    Raises InputError within about 8 seconds when the Hub cannot be reached, has no such repository, or requires access.
    """
    what = "base model" if kind == "model" else "data set"
    answer: dict[str, Any] = {}

    def ask() -> None:
        try:
            from huggingface_hub import HfApi

            info = HfApi().model_info if kind == "model" else HfApi().dataset_info
            answer["sha"] = info(name, revision=revision, timeout=PATIENCE_SECONDS - 2).sha
        except Exception as error:  # passed to the waiting thread, which explains it
            answer["error"] = error

    # In a separate thread, as a host name lookup has no timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    if "sha" in answer:
        return answer["sha"]
    error = answer.get("error")
    if error is None:
        raise unreachable(what, name, TimeoutError(f"no answer within {PATIENCE_SECONDS:.0f} seconds"))
    if (explained := explain(error, what, name, revision=revision)) is not None:
        raise explained
    raise error


@contextlib.contextmanager
def told(what: str, name: str, *, doing: str | None = None, offline_try: str | None = None) -> Iterator[None]:
    """Turn errors of the Hub into one clear message; see `explain`."""
    try:
        yield
    except FtlabError:
        raise
    except Exception as error:
        if (explained := explain(error, what, name, doing=doing, offline_try=offline_try)) is not None:
            raise explained from None
        raise


def check_name(name: str, what: str) -> None:
    """Raise InputError unless `name` can be the id of a repository on the Hub, with its owner."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        fits = "/" in name
    except HFValidationError:
        fits = False
    if not fits:
        raise InputError(
            f"This is not the id of a {what} on the Hub",
            given=name,
            allowed="owner/name, of letters, digits, -, _ and ., at most 96 characters in total",
        )


def explain(
    error: BaseException,
    what: str,
    name: str,
    *,
    doing: str | None = None,
    revision: str | None = None,
    offline_try: str | None = None,
) -> FtlabError | None:
    """The message for an error of a Hub client concerning the `what` (data set, model, Space) `name`; None when the
    error is not the Hub's.

    `doing` says what was attempted if it was more than reading: "write to me/data". `offline_try` is the advice when
    the Hub cannot be reached.
    """
    from huggingface_hub import errors

    # Uploads of several files wrap the error of one of them.
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, errors.GatedRepoError):
        return InputError(
            f"The {what} {name} is gated: it needs permission on the Hub",
            given=name,
            try_="request access on its page on the Hub, then log in with: hf auth login",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(f"The {what} {name} has no such revision", given=revision)
    if isinstance(error, errors.HFValidationError):
        return InputError(f"This is not the id of a {what} on the Hub", given=name, allowed="owner/name")
    if doing and (isinstance(error, errors.LocalTokenNotFoundError) or _status(error) in (401, 403)):
        return InputError(
            f"The Hub does not let you {doing}",
            given=name,
            try_="log in with a token that may write there: hf auth login, or HF_TOKEN",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(
            f"There is no {what} {name} on the Hugging Face Hub"
            + ("" if doing else ", and nothing here has that name"),
            given=name,
            try_="check the spelling (owner/name); if it is private, log in with: hf auth login",
        )
    if isinstance(error, errors.HfHubHTTPError) and (_status(error) or 500) < 500:
        return FtlabError(f"The Hub rejected the {what} {name}", why=shorten(error))
    if _is_network(error):
        return unreachable(what, name, error, writing=doing is not None, try_=offline_try)
    return None


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_network(error: BaseException) -> bool:
    """Whether this is a connection error, not a disk error, which names a file or reports a full disk."""
    if type(error).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore"):
        return True
    return isinstance(error, OSError) and error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT)


def unreachable(
    what: str, name: str, error: BaseException, *, writing: bool = False, try_: str | None = None
) -> Unreachable:
    """The message for a Hub that does not answer. `writing`: an upload to `name`, so it is not being looked up."""
    if is_offline():
        reason = "HF_HUB_OFFLINE is set" + ("" if writing else f" and {name} has not been downloaded")
        on_this_machine = "" if writing else f", or use a {what} on this machine"
        return Unreachable(
            f"The Hugging Face Hub cannot be reached: {reason}",
            given=name,
            try_=f"unset HF_HUB_OFFLINE{on_this_machine}",
        )
    if writing:
        return Unreachable(
            f"The Hugging Face Hub cannot be reached ({shorten(error, 120)})",
            given=name,
            try_=try_ or "check the network and try again",
        )
    return Unreachable(
        f"The Hugging Face Hub cannot be reached ({shorten(error, 120)})",
        given=f"{name}, which is not on this machine, so it is taken for a {what} on the Hub",
        try_=f"check the network, or use a {what} on this machine; HF_HUB_OFFLINE=1 uses earlier downloads",
    )
