"""Regular expressions that a person wrote: neither reading them nor searching with them may hang a run."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from typing import Any

import regex

from ftlab.errors import InputError
from ftlab.processes import child_environment

SEARCH_SECONDS = 0.1  # for one answer: (a+)+$ can take longer than the age of the universe
_COMPILE_SECONDS = 5
_LONGEST = 1000  # characters
# a{99999999} takes minutes and gigabytes to be read, and nothing inside the process can end that.
_COMPILE = """
import sys, regex
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
except ImportError:
    pass
regex.compile(sys.argv[1])
"""


def compile_pattern(pattern: str, what: str) -> Any:
    """`pattern` compiled. Raises InputError, naming `what` it is for, when it is not valid or far too large."""
    if len(pattern) > _LONGEST:
        raise InputError(
            f"The regular expression of {what} is too long",
            given=f"{len(pattern):,} characters",
            allowed=f"at most {_LONGEST:,}",
        )
    if "{" in pattern and not _can_be_compiled(pattern):
        raise InputError(
            f"The regular expression of {what} takes too long to be read",
            given=pattern,
            allowed="repetitions of some hundreds at most, such as {1,100}",
            try_="the reward length for long answers",
        )
    try:
        return regex.compile(unicodedata.normalize("NFC", pattern))
    except (regex.error, RecursionError, OverflowError) as error:
        raise InputError(
            f"The regular expression of {what} is not valid: {error}",
            given=pattern,
            try_="a backslash before letters with a meaning of their own, such as ( or ?, where they mean themselves",
        ) from None


def is_found(pattern: Any, text: str) -> bool | None:
    """Whether the compiled `pattern` is found anywhere in `text`; None when looking took too long."""
    try:
        return pattern.search(unicodedata.normalize("NFC", text), timeout=SEARCH_SECONDS) is not None
    except TimeoutError:
        return None


def _can_be_compiled(pattern: str) -> bool:
    """Whether a process of its own gets it read in time. One that is not valid is: it is refused at once."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _COMPILE, pattern],
            capture_output=True,
            timeout=_COMPILE_SECONDS,
            text=True,
            env=child_environment({}),
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode >= 0 and "MemoryError" not in done.stderr
