"""`python -m ftlab chat RUN`: base and adapted model answer, token by token."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ftlab.cli.output import print_json, say, without_controls
from ftlab.errors import InputError
from ftlab.workspace import Workspace

# Updates without a change after which a side counts as ended: a character may take several tokens to come.
_QUIET = 4


def register(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `chat` to the commands of `python -m ftlab`."""
    one = add(commands, "chat", chat, "base and adapted model answer, one below the other, as their tokens come")
    one.add_argument("run")
    one.add_argument("--message", help="answer this one message and end")
    one.add_argument("--system", help="system prompt (default: the one of training)")
    one.add_argument(
        "--bare", action="store_true", help="send messages as they are, not as the training rows were asked"
    )
    one.add_argument("--temperature", type=float, default=0.0)
    one.add_argument(
        "--strength", type=float, metavar="S", help="of what training changed (default: what was chosen, else 1)"
    )
    one.add_argument("--max-new-tokens", type=int, default=128, help="the longest answer (default 128 tokens)")


def chat(given: argparse.Namespace) -> int:
    from ftlab.chat.duet import SIDES, load_duet

    if given.json and given.message is None:
        raise InputError("--json answers one message", try_='--message "..."')
    workspace = Workspace.open(given.workspace)
    run = workspace.run(given.run)
    say("Loading the models ...")
    duet = load_duet(run)
    settings = {
        "system": given.system,
        "as_trained": not given.bare,
        "temperature": given.temperature,
        "max_new_tokens": given.max_new_tokens,
        "threads": _threads(workspace),
        "strength": given.strength,
    }
    for line in () if given.bare else duet.asked.described():
        say(f"asked as in training: {line}")
    if given.json:
        *_, last = duet.stream(given.message, **settings)
        answers = {"base": last.base, "adapted": last.adapted}
        print_json({"run": run.id, **answers, "cut": list(last.cut), "notes": list(last.notes)})
        return 0
    if given.message is not None:
        show(duet.stream(given.message, **settings), given.max_new_tokens)
        return 0
    say("Both models answer. An empty line or ctrl-D ends the chat.")
    history: dict[str, list[dict[str, str]]] = {side: [] for side in SIDES}
    while True:
        try:
            message = input("you      ")
        except EOFError:
            return 0
        if not message.strip():
            return 0
        try:
            last = show(duet.stream(message, history, **settings), given.max_new_tokens)
        except InputError as error:
            print(f"ftlab: {error}", file=sys.stderr)
            continue
        for side in SIDES:
            answer = {"role": "assistant", "content": getattr(last, side)}
            history[side] += [{"role": "user", "content": message}, answer]


def show(stream: Iterator[Any], longest: int) -> Any:
    """Print the answers of `stream` as they grow, the adapted model's once the base has ended; returns the last ones.

    Both models write at the same time and a terminal has one end, so what the adapted one has written by then comes at
    once. `longest` is the longest answer in tokens.
    """
    base, adapted = _Shown("base"), _Shown("adapted")
    quiet, before, answers = 0, None, None
    for answers in stream:
        quiet = quiet + 1 if answers.base == before else 0
        before = answers.base
        if quiet < _QUIET:
            base.grow(answers.base)
        else:
            base.close()
            adapted.grow(answers.adapted)
    if answers is None:
        return None
    for side in (adapted, base) if base.ended else (base, adapted):
        side.finish(getattr(answers, side.name))
    for side in answers.cut:
        print(f"cut      {side}: cut after {longest} tokens: --max-new-tokens")
    for note in answers.notes:
        print(f"note     {note}")
    sys.stdout.flush()
    return answers


class _Shown:
    """One answer on the terminal."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = False
        self._text, self._open = "", False

    def grow(self, text: str) -> None:
        text = without_controls(text)
        if not text.startswith(self._text):
            return  # the tokenizer has changed its mind about what it wrote; the end tells all of it
        if not self._open and not self.ended:
            self._begin()
        if self._open:
            sys.stdout.write(text[len(self._text) :])
            sys.stdout.flush()
            self._text = text

    def close(self) -> None:
        if self._open:
            sys.stdout.write("\n")
            self._open, self.ended = False, True

    def finish(self, text: str) -> None:
        """Show what is missing of the whole answer; from its beginning where the line was closed or is another one."""
        text = without_controls(text)
        if self._text != text and (self.ended or not text.startswith(self._text)):
            self.close()
            self._text, self.ended = "", False
        if not self.ended:
            self.grow(text)
            self.close()

    def _begin(self) -> None:
        sys.stdout.write(f"{self.name:<9}")
        self._open = True


def _threads(workspace: Workspace) -> int | None:
    from ftlab.chat.duet import threads_beside_a_run
    from ftlab.training import supervisor

    return threads_beside_a_run() if supervisor.active_runs(workspace) else None
