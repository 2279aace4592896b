"""The command line: `python -m ftlab COMMAND`. It calls the same functions as the app and the notebooks.

Only the module of the command at hand is imported, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import pkgutil
import sys
from collections.abc import Sequence
from typing import Any

from ftlab import __version__
from ftlab.cli.parser import PROGRAM, Parser, UsageError
from ftlab.errors import FtlabError, InputError, sentence

# In the order of the pipeline: each command with the function that fills its parser, and its line in the help.
COMMANDS = {
    "Start": {
        "quickstart": ("train:add_quickstart", "Train on a sample, compare with the base, write a report (3 minutes)"),
        "app": ("app:add_app", "Open the app in a browser"),
        "advise": ("advise:add_advise", "Choose between prompting, retrieval, fine-tuning and pretraining"),
    },
    "Data": {
        "data": ("data:add_data", "Check, fix, split, export, publish and version data"),
    },
    "Train": {
        "base": ("base:add_base", "Download, list or remove the bases kept on this machine"),
        "preflight": ("train:add_preflight", "Measure a run before it starts: memory, time, cost, warnings"),
        "train": ("train:add_train", "Train a run from a YAML file or from settings on the command line"),
        "runs": ("runs:add_runs", "List, show, stop, resume, reorder or delete runs"),
        "sweep": ("train:add_sweep", "Compare runs that differ in one or two settings"),
    },
    "Evaluate": {
        "evaluate": ("evaluate:add_evaluate", "Compare runs with their base on held-out rows"),
        "strength": ("evaluate:add_strength_command", "Measure and choose how much of the trained change to apply"),
        "judge": ("evaluate:add_judge", "Let another model compare the answers, in both orders"),
        "report": ("evaluate:add_report", "Write the report of a run: one page of HTML, or Markdown"),
    },
    "Chat": {
        "chat": ("chat:add_chat", "Chat with the base and the trained model, one below the other"),
        "serve": ("app:add_serve", "Serve base and trained model to programs here, as OpenAI's API does"),
    },
    "Blind test": {
        "arena": ("arena:add_arena", "Create, answer, serve and evaluate blind tests; train on their votes"),
    },
    "Export": {
        "export": ("export:add_export", "Export the model to a folder that loads without ftlab, and verify it"),
        "push": ("export:add_push", "Upload the model to the Hugging Face Hub, private by default"),
        "notebook": ("export:add_notebook", "Write a notebook that repeats a run and compares its figures"),
    },
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns its exit code: 0 success, 1 failure, 2 invalid input, 130 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    as_json = any(len(word) > 3 and "--json".startswith(word) for word in words)
    try:
        args = parse(words)
    except UsageError as error:
        if not as_json:
            error.parser.print_usage(sys.stderr)
        return _report(error, as_json=as_json)
    except InputError as error:
        return _report(error, as_json=as_json)
    return _run(args)


def parse(words: Sequence[str]) -> Any:
    """The arguments in `words`. Raises UsageError, or InputError for a value that is not allowed."""
    args, extra = build_parser(words).parse_known_args(words)
    if extra:
        args.parser.error(f"unrecognized arguments: {' '.join(extra)}")
    return args


def build_parser(words: Sequence[str] | None = None) -> Parser:
    """The parser of the commands that `words` name; of all commands without `words`."""
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} COMMAND [options]",
        description="Adapt a language model with a few hundred examples, and prove that it got better.",
        epilog=f"Help for a command: {PROGRAM} COMMAND --help",
    )
    parser.add_argument(
        "--version", action="version", version=f"ftlab {__version__}", help="print the version and exit"
    )
    commands = parser.add_subparsers(
        required=True,
        metavar="COMMAND",
        prog=PROGRAM,
        title="commands",
        description=_command_list(),
        help=argparse.SUPPRESS,
    )
    for section in COMMANDS.values():
        for name, (source, help) in section.items():
            command = commands.add_parser(name, description=sentence(help))
            if words is None or name in words:
                pkgutil.resolve_name(f"ftlab.cli.{source}")(command)
    return parser


def _command_list() -> str:
    lines = []
    for title, section in COMMANDS.items():
        lines += [f"{title}:", *(f"  {name:<11} {help}" for name, (_, help) in section.items())]
    return "\n".join(lines)


def _run(args: Any) -> int:
    from ftlab.cli.output import Interrupted
    from ftlab.core.damage import explained
    from ftlab.core.files import disk_full
    from ftlab.core.processes import quieten
    from ftlab.core.workspace import default_root

    quieten()
    as_json = getattr(args, "json", False)
    try:
        return args.command(args)
    except FtlabError as error:
        return _report(error, as_json=as_json)
    except KeyboardInterrupt:
        return _report(Interrupted("Interrupted"), as_json=as_json)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        known = disk_full(error, getattr(args, "workspace", None) or default_root()) or explained(error)
        if known is not None:
            return _report(known, as_json=as_json)
        # A bug in ftlab: its traceback goes to standard error.
        if as_json:
            _print_failure(FtlabError("Something went wrong inside ftlab", try_="see standard error"))
        raise


def _report(error: FtlabError, *, as_json: bool) -> int:
    print(f"ftlab: {error}", file=sys.stderr)
    if as_json:
        _print_failure(error)
    return error.exit_code


def _print_failure(error: FtlabError) -> None:
    from ftlab.cli.output import failure, print_json

    print_json(failure(error))
