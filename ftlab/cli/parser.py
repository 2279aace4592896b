"""The parser of the command line: what every command has, and usage errors that read like all other errors.

argparse, because the options of settings are drawn from RunConfig's fields at start (cli.settings; 0.3 s to --help),
and typer 0.29 and cyclopts 5.5 saved nothing when three commands were ported (November 2026): an option takes as many
lines in a signature as in `add_argument`, neither accepts abbreviated flags or knows which settings were set over a
YAML file, and parsing took 0.08 s (cyclopts) and 0.15 s (typer) of CPU time against 0.03 s.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ftlab.core.words import listed
from ftlab.errors import InputError, nearest, sentence

PROGRAM = "python -m ftlab"
Command = Callable[[argparse.Namespace], int]


class UsageError(InputError):
    """The command line does not match the command, whose parser is `parser`."""

    parser: Parser


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would exit. `example` is a command line without the program."""

    example: str | None = None

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        wrong = _explain(message, self)
        wrong.parser = self
        raise wrong


def add_group(parser: Parser) -> Any:
    """The commands below `parser`; pass it to `add_command`."""
    return parser.add_subparsers(required=True, metavar="COMMAND", title="commands")


def add_command(group: Any, name: str, command: Command, help: str, example: str, *, workspace: bool = True) -> Parser:
    """Add `name` to `group`; `help` is one line without a full stop."""
    parser: Parser = group.add_parser(name, help=help, description=sentence(help))
    define(parser, command, example, workspace=workspace)
    return parser


def define(parser: Parser, command: Command, example: str, *, workspace: bool = True, as_json: bool = True) -> None:
    """Make `parser` run `command`, show `example` in its help, and accept what all commands accept."""
    parser.set_defaults(command=command, parser=parser)
    parser.example = example
    parser.epilog = f"Example:\n  {PROGRAM} {example}"
    if workspace:
        add_workspace(parser)
    if as_json:
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object as the last line, on failure too"
        )


def add_workspace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workspace", type=Path, help="folder of the runs (default: $FTLAB_HOME, else ./workspace)")


def add_run(parser: Parser, **settings: Any) -> None:
    parser.add_argument("run", help="run id, its first characters, or `last`", **settings)


def add_strength(parser: Parser) -> None:
    parser.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="share of the trained change to apply (default: the one chosen with `strength`, else 1)",
    )


def add_sending(parser: Parser) -> None:
    """What every command takes that sends requests to an address."""
    parser.add_argument("--price-in", type=float, metavar="PER_MILLION", help="price of a million input tokens")
    parser.add_argument("--price-out", type=float, metavar="PER_MILLION", help="price of a million output tokens")
    parser.add_argument("--at-once", type=int, default=4, help="parallel requests (default: %(default)s)")
    parser.add_argument("--yes", action="store_true", help="send without asking; otherwise the cost is shown first")


def add_judge_address(parser: Parser) -> None:
    """What every command takes that lets a model judge."""
    key = "The key is read from the environment variable FTLAB_JUDGE_KEY. ftlab stores it nowhere."
    parser.epilog = "\n\n".join(filter(None, [parser.epilog, key]))
    parser.add_argument("--url", required=True, help="OpenAI-compatible address, such as http://127.0.0.1:8000/v1")
    parser.add_argument("--model", required=True, help="name of the judge at that address")
    parser.add_argument("--criteria", help="what makes an answer better, in your words")
    parser.add_argument("--no-reference", action="store_true", help="do not show the reference answer to the judge")
    add_sending(parser)
    parser.add_argument("--max-tokens", type=int, default=1024, help="longest reply in tokens (default: %(default)s)")


def add_price(parser: Parser) -> None:
    parser.add_argument("--price", type=price, metavar="PER_HOUR", help="price of the machine per hour, for the cost")


def price(text: str) -> float:
    """A price, 0 or more. Raises InputError for a negative one."""
    value = float(text)
    if not value >= 0:
        raise InputError("The price per hour is negative (--price)", given=text, allowed="0 or more")
    return value


_TYPES = {"int": "a whole number", "float": "a number", "price": "a number", "Path": "a path"}


def _explain(message: str, parser: Parser) -> UsageError:
    """argparse's `message` as what was given, what is allowed, and what to try."""
    look = f"{parser.prog} --help"
    if match := re.fullmatch(r"argument (.+?): invalid choice: (.+?) \(choose from (.*)\)", message):
        name, value, choices = match[1], match[2].strip("'\""), [part.strip(" '") for part in match[3].split(",")]
        what = "Unknown command" if name == "COMMAND" else f"{name} cannot take this value"
        close = nearest(value, choices)
        try_ = f"did you mean {close!r}?" if close else look
        return UsageError(what, given=repr(value), allowed=", ".join(choices), try_=try_)
    if match := re.fullmatch(r"argument (.+?): invalid (\w+) value: (.*)", message, re.DOTALL):
        return UsageError(f"{match[1]} cannot take this value", given=match[3], allowed=_TYPES.get(match[2]), try_=look)
    if match := re.fullmatch(r"argument (.+?): expected (one|at least one) argument", message):
        return UsageError(f"{match[1]} needs a value", try_=look)
    if match := re.fullmatch(r"the following arguments are required: (.*)", message):
        names = match[1].split(", ")
        return UsageError(f"Missing: {listed(names)}", try_=look)
    if match := re.fullmatch(r"unrecognized arguments: (.*)", message, re.DOTALL):
        flag = (match[1].split() or [""])[0].partition("=")[0]
        close = nearest(flag, set(re.findall(r"--[\w.-]+", parser.format_help()))) if flag.startswith("-") else None
        what = f"Unknown option {flag}" if flag.startswith("-") else "Too many arguments"
        return UsageError(what, given=match[1] or "an empty text", try_=f"did you mean {close}?" if close else look)
    if match := re.fullmatch(r"ambiguous option: (\S+) could match (.*)", message, re.DOTALL):
        return UsageError("More than one option begins like this", given=match[1], allowed=match[2], try_=look)
    return UsageError(message, try_=look)
