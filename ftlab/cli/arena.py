"""`python -m ftlab arena create | generate | serve | judge | send | fetch | verdict | raters | void | export ...`."""

from __future__ import annotations

import argparse
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.cli.app import add_allow_host, add_port
from ftlab.cli.arena_inputs import (
    find_test,
    learning_from,
    open_tests,
    print_flags,
    read_contestants,
    read_prompts,
    split_words,
    text_or_file,
    with_titles,
)
from ftlab.cli.output import Progress, agreed, print_json, print_result, say
from ftlab.cli.parser import Parser, add_command, add_group, add_judge_address
from ftlab.cli.settings import add_columns, named_columns
from ftlab.config import DataConfig
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.load import remember
from ftlab.errors import FtlabError, InputError

if TYPE_CHECKING:
    from ftlab.arena.asking import PromptSpec
    from ftlab.arena.results import RaterJson
    from ftlab.cli.json_forms import (
        CreatedForm,
        FetchedForm,
        FolderForm,
        GeneratedForm,
        GeneratingForm,
        HiddenForm,
        JudgedTestForm,
        LinksForm,
        ListedTestForm,
        RatersForm,
        TestPlanForm,
        TestsForm,
        VerdictForm,
        VoidedForm,
        VotesForm,
    )

_POLL_SECONDS = 0.5


def add_arena(parser: Parser) -> None:
    group = add_group(parser)
    creating = "Create a blind test; `arena generate` then makes its answers"
    _add_create(
        add_command(
            group, "create", create, creating, "arena create --contestant base --contestant run:last --number 40"
        )
    )
    generating = "Generate the answers of all contestants; continues where it stopped"
    command = add_command(group, "generate", generate, generating, "arena generate last")
    _add_test(command)
    command.add_argument("--detach", action="store_true", help="start it and return at once")
    serving = "Open a test, print the links for its raters, and serve their page"
    command = add_command(group, "serve", serve, serving, "arena serve last --raters Ana,Ben")
    _add_test(command)
    _add_links(command)
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add_port(command)
    command.add_argument("--share", action="store_true", help="create a public link through gradio's servers")
    add_allow_host(command)
    sending = "Open a test and send it to a server elsewhere, through a data set on the Hub"
    example = "arena send last --to me/votes-data --raters Ana,Ben --url https://me-votes.hf.space"
    command = add_command(group, "send", send, sending, example)
    _add_test(command)
    command.add_argument(
        "--to", required=True, metavar="OWNER/NAME", help="private data set; set FTLAB_SPACE_STORE to it"
    )
    _add_links(command)
    command.add_argument("--url", default="https://OWNER-NAME.hf.space", help="address of that server, for the links")
    fetching = "Fetch tests that were sent back, with their votes"
    command = add_command(group, "fetch", fetch, fetching, "arena fetch --from me/votes-data")
    command.add_argument("--from", required=True, dest="source", metavar="OWNER/NAME", help="data set of that server")
    judging = "Show the verdict of the votes once it may be seen"
    command = add_command(group, "verdict", verdict, judging, "arena verdict last --report verdict.html")
    _add_test(command)
    command.add_argument("--early", action="store_true", help="look before the planned votes; every report will say so")
    command.add_argument("--close", action="store_true", help="close the voting first")
    command.add_argument(
        "--report", type=Path, metavar="FILE", help="report to write (HTML; default: in the workspace)"
    )
    pooling = "Judge tests of one plan on different prompts together"
    command = add_command(group, "pool", pool, pooling, "arena pool vT3x last")
    which = "tests, as for `arena verdict`; one alone is judged with its repetitions (default: the last)"
    command.add_argument("tests", nargs="*", default=["last"], metavar="TEST", help=which)
    asking = "Let a model judge all prompts: votes on some of them then correct it"
    example = "arena judge last --url http://127.0.0.1:8000/v1 --model my-model"
    command = add_command(group, "judge", judge, asking, example)
    _add_test(command)
    add_judge_address(command)
    rating = "List the raters: how they joined, their votes, who shares a network address"
    _add_test(add_command(group, "raters", list_raters, rating, "arena raters last"))
    voiding = "Exclude the votes of a rater; every verdict says so"
    command = add_command(group, "void", void, voiding, "arena void Ana last")
    command.add_argument("rater", metavar="RATER", help="name of the rater, as `arena raters` lists it")
    _add_test(command)
    exporting = "Export the votes as training data for DPO and KTO, with their provenance"
    command = add_command(group, "export", export, exporting, "arena export last --out votes")
    _add_test(command)
    command.add_argument("--out", type=Path, metavar="FOLDER", help="folder to write (default: in the workspace)")
    command.add_argument(
        "--analysis",
        action="store_true",
        help="instead: anonymous votes, plan, verdict, and a script that recomputes it",
    )
    command.add_argument("--with-cut", action="store_true", help="also answers that were cut at the length limit")
    add_command(group, "list", list_tests, "List all blind tests with their state and votes", "arena list")
    looping = "SFT, blind test, votes, DPO, blind test on new prompts, with simulated raters (3 minutes)"
    command = add_command(group, "loop", loop, looping, "arena loop --raters 5")
    command.add_argument("--data", default="brand_voice", help="data to train on (default: %(default)s)")
    command.add_argument("--base", default="starter", help="base model (default: %(default)s)")
    command.add_argument("--prompts", help="source of the prompts (default: the held-out rows of the data)")
    command.add_argument("--prompts-per-test", type=int, metavar="N", help="prompts of each of the two tests")
    command.add_argument("--raters", type=int, help="simulated raters; each votes on every prompt")
    command.add_argument("--seed", type=int, default=0, help="the same seed gives the same loop (default: 0)")


def _add_create(parser: Parser) -> None:
    parser.add_argument("--title", help="title, which raters do not see (default: the contestants)")
    parser.add_argument(
        "--contestant",
        action="append",
        default=[],
        metavar="WHO",
        help="at least two, the one under test last: base (that of the runs beside it), base=HUB-ID, run:ID, "
        'run:ID@STRENGTH, https://host/v1#model, or JSON such as {"kind": "base", "title": "Prompted", '
        '"system_prompt": "...", "examples": [[{"role": "user", "content": "..."}, '
        '{"role": "assistant", "content": "..."}]]}',
    )
    parser.add_argument(
        "--like", metavar="TEST", help="repeat this test: its contestants and plan, on prompts that it did not ask"
    )
    parser.add_argument(
        "--prompts",
        help="a file (JSONL, CSV, or .txt with a prompt on each line), data, or run:ID for its held-out rows "
        "(default: those of the last run among the contestants)",
    )
    add_columns(parser)
    parser.add_argument(
        "--conversations",
        action="store_true",
        help="contestants answer every turn of the user in a row themselves; raters vote on whole conversations",
    )
    parser.add_argument("--number", type=int, metavar="N", help="draw this many of the prompts at random")
    parser.add_argument("--topic", metavar="COLUMN", help="column of topics; each topic gets its share of the prompts")
    parser.add_argument("--votes-per-prompt", type=int, default=1, metavar="N", help="votes on a prompt (default: 1)")
    parser.add_argument(
        "--overlap", type=float, default=1.0, help="share of the prompts that get --votes-per-prompt votes (default: 1)"
    )
    parser.add_argument(
        "--planned", type=int, metavar="N", help="planned number of votes (default: all possible votes)"
    )
    parser.add_argument(
        "--no-worse-by",
        type=float,
        default=0.0,
        metavar="POINTS",
        help="test whether the second is no worse, within this many points, instead of better",
    )
    parser.add_argument(
        "--attention", type=int, default=0, metavar="N", help="attention items for each rater; takes as many prompts"
    )
    parser.add_argument(
        "--repeat", type=float, default=0.0, metavar="SHARE", help="share of the prompts that raters get again, swapped"
    )
    for what, items in (("attention", "correct attention items"), ("consistency", "repeated items judged alike")):
        parser.add_argument(
            f"--min-{what}",
            type=float,
            default=0.0,
            metavar="SHARE",
            help=f"exclude raters below this share of {items}",
        )
    parser.add_argument(
        "--rubric", default="overall", help="separated by commas: overall, correctness, completeness, ..."
    )
    parser.add_argument(
        "--options", default="left,right,both_good,both_bad,skip", help="choices (default: %(default)s)"
    )
    parser.add_argument("--instructions", default="", help="text that raters read before they begin")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="longest answer in tokens (default: 256)")
    parser.add_argument("--seed", type=int, default=0, help="draws the prompts of --number; sides are always secret")
    parser.add_argument("--live", action="store_true", help="raters write the prompts")
    parser.add_argument(
        "--completion", default="", metavar="CODE", help="code or https address that raters see when they are done"
    )
    parser.add_argument(
        "--consent", default="", metavar="TEXT", help="text, or a text file, that raters agree to before they vote"
    )


def _add_test(parser: Parser) -> None:
    parser.add_argument(
        "test", nargs="?", default="last", help="title or id of the test, its first characters, or `last`"
    )


def _add_links(parser: Parser) -> None:
    parser.add_argument(
        "--raters",
        default="",
        metavar="NAME,NAME",
        help="a link for each new name (nurses:Ana puts Ana in a group), or a number of links",
    )
    parser.add_argument("--open-link", action="store_true", help="one link for everyone who enters a name")
    parser.add_argument(
        "--leave-out",
        action="store_true",
        help="drop prompts with an answer that could reveal its side, before it opens",
    )


def create(args: argparse.Namespace) -> int:
    from ftlab.arena import asking, blind_tests, prompt_sources
    from ftlab.arena.answers import check_generation
    from ftlab.arena.conversations import is_script
    from ftlab.arena.power import plan_in_words

    workspace, store = open_tests(args)
    before = _repeated(args, store) if args.like else None
    contestants = with_titles(read_contestants(args.contestant, workspace))
    settings = asking.TestSettings(
        check_generation({"max_new_tokens": args.max_new_tokens}),
        options=split_words(args.options),
        rubric=split_words(args.rubric),
        instructions=args.instructions,
        votes_per_prompt=args.votes_per_prompt,
        overlap=args.overlap,
        live=args.live,
        completion=args.completion.strip(),
        consent=text_or_file(args.consent),
        margin=args.no_worse_by,
        attention=args.attention,
        repeats=args.repeat,
        min_attention=args.min_attention,
        min_consistency=args.min_consistency,
        conversations=args.conversations,
    )
    if before is not None:
        from ftlab.arena.pooling import not_asked, plan_of, repeated_title

        contestants, settings = plan_of(store, before.id)
    prompts: list[PromptSpec] = []
    left_out = available = 0
    if not args.live:
        specs = [contestant.spec for contestant in contestants]
        columns, scripts = named_columns(args), settings.conversations
        every = read_prompts(args.prompts, args.topic, specs, workspace, columns, conversations=scripts)
        prompts, left_out = prompt_sources.fresh(every, specs, workspace)
        if before is not None:
            prompts = not_asked(store, before.id, prompts)
        available = len(prompts)
        prompts = prompt_sources.sample(prompts, args.number, by_topic=bool(args.topic), seed=args.seed)
    planned = args.planned or asking.capacity(len(contestants), len(prompts), settings)
    if planned is None:
        raise InputError("A live test needs a planned number of votes", try_="--planned 100")
    again = repeated_title(store, before.id) if before is not None else ""
    title = args.title or again or " against ".join(contestant.title for contestant in contestants)
    test_id = blind_tests.create_test(store, title, contestants, prompts, settings, planned)
    if args.prompts and (columns := named_columns(args)):
        remember(DataConfig(source=args.prompts, columns=columns), workspace)
    shape = {"overlap": settings.overlap, "contestants": len(contestants), "margin": settings.margin}
    counting = len(prompts) - settings.attention if prompts else None
    power = plan_in_words(planned, counting, settings.votes_per_prompt, **shape)
    trained_on = f", {left_out} left out: a contestant was trained on them or near copies" if left_out else ""
    if args.number and not args.live and args.number > available:
        trained_on = f" (you asked for {args.number}; no more are available){trained_on}"
    scripts_ = sum(map(is_script, (prompt.messages for prompt in prompts)))
    if settings.conversations:
        trained_on = f", {scripts_} of them with several turns{trained_on}"
    elif scripts_:
        trained_on += (
            f"; {scripts_} hold several turns and no answers: --conversations lets contestants answer each turn"
        )
    lines = [
        f"test       {test_id}  {title}",
        f"prompts    {len(prompts)}{trained_on}",
        f"planned    {counted(planned, 'vote')}",
    ]
    value: CreatedForm = {
        "test": test_id,
        "title": title,
        "prompts": len(prompts),
        "left_out": left_out,
        "planned": planned,
        "power": power,
    }
    print_result(args, value, *lines, *([power] if power else []))
    if not args.json:
        say(f"Next: python -m ftlab arena {'serve' if args.live else 'generate'}{workspace.flag}")
    return 0


# What `create --like` takes from the other test.
_OF_PLAN = (
    *(
        "contestant",
        "rubric",
        "options",
        "instructions",
        "votes_per_prompt",
        "overlap",
        "live",
        "completion",
        "consent",
    ),
    *("max_new_tokens", "no_worse_by", "attention", "repeat", "min_attention", "min_consistency", "conversations"),
)


def _repeated(args: argparse.Namespace, store: Any) -> Any:
    """The test of `--like`. Raises InputError for options that would change its plan."""
    usual = Parser()
    _add_create(usual)
    changed = [f"--{name.replace('_', '-')}" for name in _OF_PLAN if getattr(args, name) != usual.get_default(name)]
    if changed:
        raise InputError(
            "A test with --like keeps the contestants and the plan of the other one",
            given=", ".join(changed),
            allowed="--prompts, --number, --topic, --planned, --title",
        )
    return find_test(store, args.like)


def generate(args: argparse.Namespace) -> int:
    from ftlab.arena import answers as answering
    from ftlab.arena import blind_tests

    workspace, store = open_tests(args)
    test = find_test(store, args.test)
    if test.settings["live"]:
        raise InputError("A live test generates its answers while raters write", try_="python -m ftlab arena serve")
    answering.start(workspace, test.id)
    if args.detach:
        say(f"It continues in the background. Follow it with: python -m ftlab arena list{workspace.flag}")
        started: GeneratingForm = {"test": test.id, "state": "generating"}
        return print_result(args, started)
    progress = Progress()
    while True:
        try:
            status, counts = answering.status(workspace, test.id), blind_tests.progress(store, test.id)
            if status is None or not status.is_active:
                break
            progress(f"{status.state}: answers", counts["answers"], counts["answers_wanted"])
            time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            say(answering.stop(workspace, test.id).message)
    progress.close(f"{counts['answers']} of {counts['answers_wanted']} answers generated")
    if status is not None and status.state == "failed" and status.error:
        raise FtlabError(status.error["what"], why=status.error.get("why"), try_=status.error.get("try"))
    flags = print_flags(store, test.id, quiet=args.json)
    if args.json:
        value: GeneratedForm = {
            "test": test.id,
            "state": counts["state"],
            "answers": counts["answers"],
            "wanted": counts["answers_wanted"],
            "flags": flags,
        }
        print_json(value)
    return 0 if counts["state"] != "generating" else 130


def verdict(args: argparse.Namespace) -> int:
    from ftlab.arena import blind_tests
    from ftlab.arena.tally import evaluate, watch
    from ftlab.report.arena import check_lines, quality_rows, write_arena_report

    _, store = open_tests(args)
    test = find_test(store, args.test)
    if args.close:
        blind_tests.close_test(store, test.id)
    if (
        blind_tests.revealed(store, test.id) is None
        and test.state == "open"
        and not watch(store, test.id)
        and args.early
    ):
        blind_tests.open_early(store, test.id)
    if blind_tests.revealed(store, test.id) is None:
        counts = blind_tests.progress(store, test.id)
        hidden: HiddenForm = {
            "test": test.id,
            "revealed": None,
            "votes": counts["votes"],
            "planned": counts["planned"],
        }
        print_result(args, hidden, f"The result is hidden: {blind_tests.votes_in_words(counts)} are in.")
        if not args.json:
            say("It appears at the planned number of votes. --early shows it now, and every report will say so.")
        return 0
    result = evaluate(store, test.id)
    report = write_arena_report(store, test.id, args.report)
    wins = result["counts"]["wins"]
    value: VerdictForm = {"test": test.id, "report": str(report), **result}
    return print_result(
        args,
        value,
        result["text"],
        "",
        *(f"{contestant['title']:<32} won {wins[contestant['id']]:,}" for contestant in result["contestants"]),
        *(f"{label:<20} {text}" for label, text in check_lines(result)),
        *(_quality_text(row) for row in quality_rows(result)),
        *(f"note: {note}" for note in result["notes"]),
        f"\nreport     {report}",
    )


def pool(args: argparse.Namespace) -> int:
    from ftlab.arena import pooling

    _, store = open_tests(args)
    tests = [find_test(store, name).id for name in args.tests]
    result = pooling.pool(store, pooling.repetitions(store, tests[0]) if len(tests) == 1 else tests)
    lines = [
        f"test       {row['test']}  {row['title']}: won {row['wins']} of {row['wins'] + row['losses']} prompts"
        for row in result["tests"]
    ]
    return print_result(args, result, result["text"], "", *lines, *(f"note: {note}" for note in result["notes"]))


def _quality_text(row: list[str]) -> str:
    name, votes, seconds, attention, repeated, agrees, excluded = row
    parts = [
        f"{votes} {'vote' if votes == '1' else 'votes'}",
        seconds and f"{seconds} s each",
        attention and f"attention items {attention}",
    ]
    parts += [repeated and f"repeated alike {repeated}", agrees and f"agrees {agrees}", excluded]
    return f"rater {name:<14} {', '.join(filter(None, parts))}"


def judge(args: argparse.Namespace) -> int:
    """Show the cost, ask, and judge. Ctrl+C stops; what was judged is kept."""
    from ftlab.arena.judging import judge_test, plan_judging, sides_of_test
    from ftlab.evaluation.judge_plan import build_settings

    _, store = open_tests(args)
    test = find_test(store, args.test)
    settings = build_settings(
        args.url,
        args.model,
        sides=sides_of_test(store, test.id),
        criteria=args.criteria or test.settings["instructions"],
        reference=not args.no_reference,
        price_in=args.price_in,
        price_out=args.price_out,
        at_once=args.at_once,
        max_tokens=args.max_tokens,
    )
    planned = plan_judging(store, test.id, settings)
    asked: TestPlanForm = {"test": test.id, "plan": planned}
    if not agreed(args, asked, planned.lines(), needed=planned.open > 0):
        return 0
    progress = Progress()
    try:
        judged = judge_test(store, test.id, settings, progress=progress)
    finally:
        progress.close("")
    line = f"judged     {counted(judged, 'prompt')}. The verdict uses them once votes are in on 20 of them or more."
    value: JudgedTestForm = {"test": test.id, "judged": judged}
    return print_result(args, value, line)


def list_raters(args: argparse.Namespace) -> int:
    from ftlab.arena import blind_tests

    _, store = open_tests(args)
    test = find_test(store, args.test)
    people = blind_tests.progress(store, test.id)["raters"]
    names = {rater["number"]: rater["pseudonym"] for rater in people}
    if not people and not args.json:
        say("No rater has a link yet. Make links with: python -m ftlab arena serve --raters Ana,Ben")
    value: RatersForm = {"test": test.id, "raters": people}
    return print_result(args, value, *(_rater_text(rater, names) for rater in people))


def _rater_text(rater: RaterJson, names: dict[int, str]) -> str:
    notes = ["joined by the open link"] if rater["open_link"] else []
    notes += ["votes voided"] if rater["voided"] else ["link revoked"] if rater["revoked"] else []
    beside = ", ".join(names[number] for number in rater["beside"][:5])
    notes += [f"same network address as {beside}"] if beside else []
    notes += [f"group {rater['group']}"] if rater["group"] else []
    return f"{rater['pseudonym']:<30} {rater['votes']:>5} votes  {'; '.join(notes)}".rstrip()


def void(args: argparse.Namespace) -> int:
    from ftlab.arena import blind_tests, links

    _, store = open_tests(args)
    test = find_test(store, args.test)
    people = {rater["pseudonym"]: rater["id"] for rater in blind_tests.progress(store, test.id)["raters"]}
    if args.rater not in people:
        known = ", ".join(people) or "no raters yet"
        raise InputError("This test has no such rater", given=args.rater, allowed=known[:500])
    links.void(store, people[args.rater])
    counts = blind_tests.progress(store, test.id)
    value: VoidedForm = {
        "test": test.id,
        "rater": args.rater,
        "votes": counts["votes"],
        "voided": counts["voided"],
    }
    text = f"Excluded the votes of {args.rater}: {blind_tests.votes_in_words(counts)} are in."
    return print_result(args, value, text)


def export(args: argparse.Namespace) -> int:
    from ftlab.arena import preferences

    workspace, store = open_tests(args)
    test = find_test(store, args.test)
    if args.analysis:
        from ftlab.arena.analysis import write_analysis

        folder = write_analysis(store, test.id, args.out or workspace.votes_folder(test.id) / "analysis")
        check = f"python {shlex.quote(str(folder / 'recompute.py'))}"
        value: FolderForm = {"test": test.id, "folder": str(folder)}
        return print_result(args, value, f"folder     {folder}", f"Check it: {check}")
    folder, votes = preferences.export(store, test.id, args.out, with_cut=args.with_cut)
    exported: VotesForm = {"test": test.id, "folder": str(folder), **votes.summary()}
    print_result(args, exported, votes.text(), f"folder     {folder}")
    if not args.json:
        stage, file = ("dpo", preferences.DPO_FILE) if votes.pairs else ("kto", preferences.KTO_FILE)
        settings = [f"stage={stage}", f"data.source={folder / file}"]
        settings += learning_from(store, test.id, workspace) or ["model.base=..."]
        settings += [f"preference.{name}={value}" for name, value in votes.settings(stage).items()]
        where = ["--workspace", str(args.workspace)] if args.workspace else []
        words = [word for setting in settings for word in ("--set", setting)]
        say(f"Next: python -m ftlab train {shlex.join([*words, *where])}")
    return 0


def list_tests(args: argparse.Namespace) -> int:
    from ftlab.arena import blind_tests

    _, store = open_tests(args)
    rows: list[ListedTestForm] = []
    lines = []
    for test in blind_tests.list_tests(store):
        known = blind_tests.progress(store, test.id)
        cast, planned = blind_tests.votes_of_people(known)
        listed: Any = {name: value for name, value in known.items() if name != "raters"}
        rows.append(listed | {"test": test.id, "title": test.title})
        lines.append(
            f"{test.id:<18} {known['state']:<11} {known['answers']}/{known['answers_wanted']} answers  "
            f"{cast}/{planned} votes  {test.title}"
        )
    if not rows and not args.json:
        say("No blind tests yet. Create one with: python -m ftlab arena create --contestant base --contestant run:last")
    value: TestsForm = {"tests": rows}
    return print_result(args, value, *lines)


def loop(args: argparse.Namespace) -> int:
    from ftlab.arena.loop import VOICE, LoopSettings, run_loop, voice_settings

    workspace = Workspace.open(args.workspace)
    settings = voice_settings(args.base) if args.data == VOICE else LoopSettings(source=args.data, base=args.base)
    changes = {"prompts": args.prompts, "prompts_per_test": args.prompts_per_test, "raters": args.raters}
    changes = {name: value for name, value in changes.items() if value is not None}
    settings = replace(settings, seed=args.seed, **changes)
    result = run_loop(workspace, lambda run: _train(run, workspace), settings, tell=say)
    print_result(args, result, result["verdicts"][1]["text"])
    if not args.json:
        say(f"List both tests with: python -m ftlab arena list{workspace.flag}")
    return 0


def _train(settings: dict[str, Any], workspace: Workspace) -> RunDirectory:
    """Train a run as the app does, and wait for its end."""
    from ftlab import api

    run = api.train(workspace=workspace.root, **settings).wait(show=False)
    if run.status.state != "completed":
        look = f"python -m ftlab runs show {run.id}{workspace.flag}"
        raise FtlabError(f"The run {run.id} is {run.status.state}", try_=look)
    return workspace.run(run.id)


_LOOK_SECONDS = 15.0


def serve(args: argparse.Namespace) -> int:
    from ftlab.arena import blind_tests

    workspace, store = open_tests(args)
    test = find_test(store, args.test)
    opened = _open_for(store, test, args)
    # Gradio takes seconds to import: mistakes in the options are reported first.
    from ftlab.arena.live import ask_models
    from ftlab.arena.tally import watch
    from ftlab.ui.rater.page import launch_rater_app

    _, url = launch_rater_app(
        workspace.root,
        host=args.host,
        port=args.port,
        share=args.share,
        ask_models=ask_models,
        allow_hosts=args.allow_host,
    )
    _print_links(store, test.id, url, opened, args)
    say("Ctrl-C closes the page. Votes are kept, and the links work again at the same address.")
    progress = Progress()
    before = -1
    try:
        while True:
            counts = blind_tests.progress(store, test.id)
            if counts["votes"] != before:
                before = counts["votes"]
                # It does not reveal the direction, only that the votes are enough.
                enough = "" if counts["revealed"] or not watch(store, test.id) else "  enough for a verdict"
                progress.line(f"{blind_tests.votes_in_words(counts)}{enough}", "votes")
            time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        progress.close("The page is closed.")
    return 0


def send(args: argparse.Namespace) -> int:
    from ftlab.arena import backup

    _, store = open_tests(args)
    test = find_test(store, args.test)
    opened = _open_for(store, test, args)
    backup.send(store, test.id, args.to)
    _print_links(store, test.id, args.url, opened, args)
    say(f"Sent to {args.to}. Set two variables on the server: FTLAB_SPACE_STORE={args.to}, and FTLAB_SECRET to that of")
    say(f"this workspace (your FTLAB_SECRET, or the content of {store.workspace.arena_secret}).")
    say(f"To fetch the votes: python -m ftlab arena fetch --from {args.to}")
    return 0


def fetch(args: argparse.Namespace) -> int:
    from ftlab.arena import backup, blind_tests

    _, store = open_tests(args)
    votes = {test_id: blind_tests.progress(store, test_id)["votes"] for test_id in backup.fetch(store, args.source)}
    value: FetchedForm = {"votes": votes}
    return print_result(args, value, *(f"{test_id}  {counted(count, 'vote')}" for test_id, count in votes.items()))


def _open_for(store: Any, test: Any, args: argparse.Namespace) -> str | None:
    """Open the test and create links for --raters and --open-link; returns the token of the open link."""
    from ftlab.arena import blind_tests, links

    if test.state != "open":
        print_flags(store, test.id, quiet=args.json)
        if args.leave_out and not test.settings["live"]:
            left = blind_tests.leave_out(store, test.id)
            say(f"{counted(left, 'prompt')} left out, with the answers of all contestants.")
        blind_tests.open_test(store, test.id)
        event = next(event for event in blind_tests.history(store, test.id) if event.what == "opened")
        if not args.json:
            say(f"plan       registered, SHA-256 {event.detail['plan']}")
    names = [""] * int(args.raters) if args.raters.isdecimal() else list(split_words(args.raters))
    links.create_raters(store, test.id, names)
    return links.open_link(store, test.id) if args.open_link else None


def _print_links(store: Any, test_id: str, url: str, opened: str | None, args: argparse.Namespace) -> None:
    from ftlab.arena import links
    from ftlab.ui.rater.page import rater_address

    addresses = {link.pseudonym: rater_address(url, link.token) for link in links.links(store, test_id)}
    if opened:
        addresses["everybody"] = rater_address(url, opened)
    if not addresses:
        say("No one can vote yet: add --raters Ana,Ben or --open-link")
    if args.json:
        value: LinksForm = {"test": test_id, "url": url, "links": addresses}
        print_json(value)
    else:
        for name, address in addresses.items():
            print(f"{name:<20} {address}", flush=True)
