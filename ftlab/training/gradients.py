"""Warnings that a gradient is wrong end the training: torch goes on with it, and the loss falls all the same."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from ftlab.errors import FtlabError, shorten

# torch: "an autograd kernel was not registered to the Autograd key(s) but we are trying to backprop through it. This
# may lead to silently incorrect behavior." (autograd_not_implemented_fallback.cpp, torch 2.13)
_WORDS = (
    r"silently (?:incorrect|wrong)|autograd kernel was not registered|(?:incorrect|wrong) gradient"
    r"|gradients? (?:will|may|might|can) be (?:silently )?(?:incorrect|wrong)"
)
_WRONG = re.compile(_WORDS, re.IGNORECASE)


@contextlib.contextmanager
def no_wrong_gradients() -> Iterator[None]:
    """Within it such a warning raises FtlabError where it occurs: in the backward pass, before the weights change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=rf"(?is).*(?:{_WORDS})")
        try:
            yield
        except Warning as warning:
            if not _WRONG.search(str(warning)):
                raise
            raise _error(str(warning)) from warning


class LogWatch:
    """Looks for such warnings in what libraries print to `log_file` past Python, from its end as it is now."""

    def __init__(self, log_file: Path):
        self._file = log_file
        self._read = log_file.stat().st_size if log_file.exists() else 0

    def check(self) -> None:
        """Raise FtlabError when one was printed since the last check."""
        if not self._file.exists():
            return
        with self._file.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        # A line that is still being written is read again.
        self._read += new.rfind(b"\n") + 1
        for line in new.decode("utf-8", "replace").splitlines():
            if _WRONG.search(line):
                raise _error(line)


def _error(text: str) -> FtlabError:
    return FtlabError(
        "The gradients of this run would be wrong, so it was ended.",
        why=f"A library warns: {shorten(text, 300)}",
        try_="another method (method.name=lora), or other versions of the library that is named; the run's log has "
        "the whole warning",
    )
