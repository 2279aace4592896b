"""What another machine must be able to do to train a run: the verbs of a place."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

from typing_extensions import TypedDict

from ftlab.core.run_directory import RunDirectory
from ftlab.errors import ErrorJson, FtlabError


class LostConnection(FtlabError):
    """The other machine cannot be reached. What runs there goes on."""


class Event(TypedDict, total=False):
    """What a place tells of a run: its `status`, new `text` of a `file` from byte `at` to `next`, the `error` that kept
    it from starting, or that it has `ended`. Without any of these: nothing new."""

    status: dict[str, Any]
    file: str
    at: int
    next: int
    text: str
    error: ErrorJson
    ended: bool


class PlaceJson(TypedDict):
    """place.json: what was given after --on, what the check of the place learned, and how much of its log is here
    (bytes)."""

    on: str
    settings: dict[str, str]
    log: int


class Place(Protocol):
    """Another machine. Every verb raises LostConnection when it is out of reach, FtlabError for other failures."""

    @property
    def name(self) -> str:
        """Where that is, for messages."""

    @property
    def settings(self) -> dict[str, str]:
        """What `check` learned, as place.json keeps it."""

    def check(self, needed: Sequence[Path]) -> list[str]:
        """Whether ftlab can train there and has the files `needed`; returns remarks for the user. Sends no data."""

    def send(self, run: RunDirectory) -> None:
        """Copy the folder of `run` there, unless it is there."""

    def follow(self, run: RunDirectory, *, start: bool, log_from: int) -> Generator[Event]:
        """What happens to `run`, until it has ended, an empty event at least every half second; with `start` it is
        started first unless it is at work or done."""

    def stop(self, run: RunDirectory) -> None:
        """Ask `run` to save and stop."""

    def fetch(self, run: RunDirectory) -> None:
        """Copy what training wrote there into the folder of `run`."""

    def removal(self, run: RunDirectory) -> str:
        """The command that deletes `run` there."""
