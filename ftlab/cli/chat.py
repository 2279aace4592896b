"""`python -m ftlab chat RUN`: base and adapted model answer, token by token."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.cli.output import print_json, say, without_controls
from ftlab.cli.parser import Parser, add_run, add_strength, define
from ftlab.core.workspace import Workspace
from ftlab.data.tool_calls import next_turn, parts_of
from ftlab.errors import InputError

if TYPE_CHECKING:
    from ftlab.cli.json_forms import ChatForm

# A side that did not change for so many updates has ended: one character may take several tokens.
_QUIET = 4


def add_chat(parser: Parser) -> None:
    define(parser, chat, 'chat last --message "My card was charged twice."')
    add_run(parser)
    parser.add_argument("--message", help="answer this message and exit")
    parser.add_argument("--system", help="system prompt (default: that of training)")
    parser.add_argument("--tools", metavar="FILE", help="tools to offer, a JSON list (default: those of training)")
    parser.add_argument(
        "--bare", action="store_true", help="send messages unchanged, without the prompt template of training"
    )
    parser.add_argument("--temperature", type=float, default=0.0, help="sampling temperature (default: 0, greedy)")
    add_strength(parser)
    parser.add_argument("--max-new-tokens", type=int, default=128, help="longest answer in tokens (default: 128)")


def chat(args: argparse.Namespace) -> int:
    from ftlab.evaluation.duet import SIDES, load_duet

    if args.json and args.message is None:
        raise InputError("--json needs a message to answer", try_='--message "..."')
    workspace = Workspace.open(args.workspace)
    run = workspace.run(args.run)
    say("Loading the models ...")
    duet = load_duet(run)
    settings = {
        "system": args.system,
        "as_trained": not args.bare,
        "temperature": args.temperature,
        "max_new_tokens": args.max_new_tokens,
        "threads": _threads(workspace),
        "strength": args.strength,
        "tools": _tools(args.tools),
    }
    for line in () if args.bare else duet.asked.described():
        say(f"as in training: {line}")
    if args.json:
        *_, last = duet.stream(args.message, **settings)
        value: ChatForm = {
            "run": run.id,
            "base": last.base,
            "adapted": last.adapted,
            "cut": list(last.cut),
            "notes": list(last.notes),
        }
        print_json(value)
        return 0
    if args.message is not None:
        show(duet.stream(args.message, **settings), args.max_new_tokens)
        return 0
    say("Both models answer. An empty line or Ctrl-D ends the chat.")
    history: dict[str, list[dict[str, str]]] = {side: [] for side in SIDES}
    while True:
        try:
            message = input("you      ")
        except EOFError:
            return 0
        if not message.strip():
            return 0
        try:
            last = show(duet.stream(message, history, **settings), args.max_new_tokens)
        except InputError as error:
            print(f"ftlab: {error}", file=sys.stderr)
            continue
        for side in SIDES:
            answer = {"role": "assistant", "content": getattr(last, side)}
            if calls := parts_of(answer["content"]).calls:
                say(f"{side} called {', '.join(call.name for call in calls)}: type what the tool replies.")
            history[side] += [next_turn(history[side], message), answer]


def _tools(file: str | None) -> str | None:
    if file is None:
        return None
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("The file of --tools cannot be read", given=file, try_=str(error)) from None


def show(stream: Iterator[Any], longest: int) -> Any:
    """Print the answers of `stream` as they grow; returns the last ones. `longest` is the longest answer in tokens.

    Both models write at once, but a terminal has one cursor: the adapted answer follows when the base has ended.
    """
    base, adapted = _PrintedAnswer("base"), _PrintedAnswer("adapted")
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


class _PrintedAnswer:
    """An answer on the terminal, printed as it grows."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = False
        self._text, self._open = "", False

    def grow(self, text: str) -> None:
        text = without_controls(text)
        if not text.startswith(self._text):
            return  # the tokenizer revised what it wrote; `finish` prints the whole answer
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
        """Print the rest of the answer; all of it on a new line if its line was closed or its text changed."""
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
    from ftlab.evaluation.duet import threads_beside_a_run
    from ftlab.training import supervisor

    return threads_beside_a_run() if supervisor.active_runs(workspace) else None
