"""`python -m ftlab data make | accept`: rows that a model writes, and whoever takes them unread."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.cli.output import Progress, agreed, keeping, print_result
from ftlab.cli.parser import add_command, add_sending
from ftlab.config import DataConfig, load_config
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError

if TYPE_CHECKING:
    from ftlab.cli.json_forms import SavedForm, WritingPlanForm
    from ftlab.core.run_directory import RunDirectory
    from ftlab.synthesis.plan import Settings, Work


def add_make(group: Any) -> None:
    making = "Write rows about documents, more rows like yours, or other answers to your prompts, with a model"
    example = "data make manuals/ --url http://127.0.0.1:8000/v1 --model my-model"
    command = add_command(group, "make", make, making, example)
    command.epilog = (
        f"{command.epilog}\n  python -m ftlab data make my.csv --cases 50 --base smollm2\n\n"
        "The key is read from the environment variable FTLAB_ENDPOINT_KEY. ftlab stores it nowhere."
    )
    command.add_argument(
        "source", nargs="*", help="documents or a folder of them; or a sample, a file, a Hub id or version:<id>"
    )
    command.add_argument("--url", help="OpenAI-compatible address of the model that writes")
    command.add_argument("--model", help="name of the model at that address")
    command.add_argument("--base", help="a base on this machine that writes instead")
    command.add_argument("--examples", metavar="SOURCE", help="rows whose form, length and style are followed")
    command.add_argument("--each", type=int, default=3, help="rows per passage or request (default: %(default)s)")
    command.add_argument("--rows", type=int, help="most rows about documents (default: --each for every passage)")
    command.add_argument("--cases", type=int, metavar="ROWS", help="write so many new cases like those of the source")
    command.add_argument("--paraphrases", type=int, metavar="ROWS", help="reword so many prompts of the source")
    command.add_argument(
        "--answers",
        metavar="RUN",
        help="answer the training prompts of this run instead, as its prompted base does, or by the model at --url",
    )
    command.add_argument("--no-judge", action="store_true", help="do not let the model judge each row")
    add_sending(command)
    command.add_argument("--seed", type=int, default=42, help="which documents are held out (default: %(default)s)")
    command.add_argument("--name", help="name of the data that documents become (default: that of the folder or file)")
    command.add_argument("--who", help="who makes the change (default: your login name)")

    accepting = "Accept the rows of a version that a model wrote and nobody has read; training asks for it"
    command = add_command(group, "accept", accept, accepting, "data accept version:manuals-1-0f3a2b --why checked")
    command.add_argument("source", metavar="VERSION", help="version with rows that a model wrote")
    command.add_argument("--who", help="who accepts them (default: your login name)")
    command.add_argument("--why", default="", help="reason, kept in the history")


def make(args: argparse.Namespace) -> int:
    """Show the cost, ask, and write. Ctrl+C stops; replies so far are kept, and the same command continues."""
    from ftlab.synthesis.make import make as write
    from ftlab.synthesis.plan import build_settings, plan, replies_file

    workspace = Workspace.open(args.workspace)
    if not args.source and not args.answers:
        raise InputError("Nothing is named to write about", allowed="documents, rows to extend, or --answers RUN")
    run = workspace.run(args.answers) if args.answers else None
    settings = build_settings(
        url=args.url,
        model=args.model,
        base=args.base or (load_config(run.config_file).model.base if run and not args.url else None),
        each=args.each,
        rows=args.rows or args.cases or args.paraphrases,
        judged=not args.no_judge,
        price_in=args.price_in,
        price_out=args.price_out,
        at_once=args.at_once,
        seed=args.seed,
    )
    work = _work(args, workspace, settings, run)
    planned = plan(work, workspace)
    needed = settings.endpoint is not None and planned.open + planned.unjudged > 0
    asked: WritingPlanForm = {"plan": planned}
    if not agreed(args, asked, planned.lines(), needed=needed):
        return 0
    progress = Progress()
    try:
        with keeping(replies_file(workspace, work)):
            made = write(work, workspace, who=args.who, progress=progress)
    finally:
        progress.close("")
    return print_result(
        args,
        made,
        *made.lines(),
        "",
        f"{made.version.source}",
        f"  read them      python app.py{workspace.flag}, then Data, {made.version.name}, Curate",
        f"  take as read   python -m ftlab data accept {made.version.source}{workspace.flag}",
    )


def _work(args: argparse.Namespace, workspace: Workspace, settings: Settings, run: RunDirectory | None) -> Work:
    from ftlab.data.documents import is_document
    from ftlab.synthesis.answers import answer_work
    from ftlab.synthesis.plan import CASES, PARAPHRASES, document_work, examples_of, row_work

    more = {CASES: args.cases, PARAPHRASES: args.paraphrases}
    wanted = [kind for kind, count in more.items() if count]
    if run is not None and (args.source or wanted or args.rows):
        raise InputError("--answers takes the prompts of the run, all of them", try_="leave out everything else")
    if args.base and (args.url or args.model):
        other = "--url" if args.url else "--model"
        raise InputError(f"--base writes on this machine, so {other} has no use", try_="leave out one of the two")
    if run is not None or wanted:
        _check_documents_only(args)
    if run is not None:
        return answer_work(run, workspace, settings)
    if len(wanted) > 1 or (wanted and args.rows):
        raise InputError("Only one of --rows, --cases and --paraphrases can be given", try_="run the command twice")
    if wanted:
        if len(args.source) > 1:
            raise InputError("More rows are written for one source", given=" ".join(args.source))
        return row_work(DataConfig(source=args.source[0]), workspace, wanted[0], settings)
    places = [Path(source).expanduser() for source in args.source]
    if missing := [place for place in places if not place.exists()]:
        raise InputError(f"There is no file {missing[0]}", given=" ".join(args.source), try_="check the path")
    if not any(place.is_dir() or is_document(place) for place in places) and len(places) == 1:
        raise InputError(
            "These are rows, not documents",
            given=args.source[0],
            try_="add --cases 50 for new cases like them, or --paraphrases 50 for other wordings",
        )
    examples = examples_of(DataConfig(source=args.examples), workspace) if args.examples else []
    return document_work(args.source, settings, examples, args.name)


def _check_documents_only(args: argparse.Namespace) -> None:
    """Raise InputError for what only rows about documents take."""
    if args.name:
        raise InputError(
            "Rows that are added to your data become its next version, under its name",
            given=f"--name {args.name}",
            allowed="--name with documents alone",
            try_="leave out --name",
        )
    if args.examples:
        raise InputError(
            "Rows that are added to your data take its own rows as examples",
            given=f"--examples {args.examples}",
            allowed="--examples with documents alone",
            try_="leave out --examples",
        )


def accept(args: argparse.Namespace) -> int:
    from ftlab.data.curation import accept_unread
    from ftlab.data.version_store import find
    from ftlab.data.versions import train_command

    workspace = Workspace.open(args.workspace)
    version = accept_unread(find(args.source, workspace), workspace, who=args.who, why=args.why)
    value: SavedForm = {**version.as_dict(), "source": version.source}
    return print_result(
        args,
        value,
        f"{version.source}: {version.action}",
        f"  train on it    {train_command(version.source, workspace)}",
    )
