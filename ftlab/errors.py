"""The errors a person gets to read: what is wrong, what was given, what is allowed, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from typing_extensions import TypedDict

# An error as status.json keeps it. `kind`: input, run, disk, damaged or gone; `out_of_memory` only of a measurement.
ErrorJson = TypedDict(
    "ErrorJson",
    {"what": str, "why": str | None, "try": str | None, "kind": str, "out_of_memory": bool},
    total=False,
)


def sentence(text: str) -> str:
    """`text` with a period at its end, if it lacks one."""
    text = text.strip()
    return text if text.endswith((".", "?", "!", "…", ":")) else text + "."


class FtlabError(Exception):
    """An expected failure that is shown as one message, never as a traceback.

    Attributes: `what` (one sentence), `why` (cause, optional), `try_` (what to do next, optional);
    `exit_code` is what the command line returns.
    """

    exit_code = 1

    def __init__(self, what: str, *, why: str | None = None, try_: str | None = None):
        self.what, self.why, self.try_ = what, why, try_
        super().__init__(self.message())

    def message(self) -> str:
        parts = [self.what, self.why, self.try_ and f"Try: {self.try_}"]
        return " ".join(sentence(part) for part in parts if part)

    def as_dict(self) -> ErrorJson:
        """The form in which it is kept in status.json: {what, why, try}."""
        return {"what": self.what, "why": self.why, "try": self.try_}

    @classmethod
    def from_json(cls, error: ErrorJson) -> FtlabError:
        """The error that a status file holds, with the exit code of its kind."""
        made = FtlabError(error["what"], why=error.get("why"), try_=error.get("try"))
        made.exit_code = InputError.exit_code if error.get("kind") == "input" else FtlabError.exit_code
        return made


class InputError(FtlabError):
    """Something a person gave cannot be used. Names the value given and what is allowed."""

    exit_code = 2

    def __init__(self, what: str, *, given: object = None, allowed: object = None, try_: str | None = None):
        self.given, self.allowed = given, allowed
        why = []
        if given is not None:
            why.append(sentence(f"Given: {shorten(given)}"))
        if allowed is not None:
            why.append(sentence(f"Allowed: {allowed}"))
        super().__init__(what, why=" ".join(why) or None, try_=try_)


class MissingPackage(FtlabError):
    """An optional package is needed for what was asked."""


def shorten(value: object, limit: int = 200) -> str:
    """`value` as text on one line of at most `limit` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The hint for a name that is probably a misspelling of a known one; None when nothing is close."""
    close = nearest(name, known)
    return f"did you mean {close}?" if close else None


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None when nothing is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None
