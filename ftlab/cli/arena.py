"""`python -m ftlab arena create | generate | serve | send | fetch | verdict | raters | void | export | list | loop`."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftlab.cli.app import add_allow_host
from ftlab.cli.arena_given import (
    find,
    learning_from,
    open_given,
    print_flags,
    read_contestants,
    read_prompts,
    split_words,
    titled,
)
from ftlab.cli.arena_serving import fetch, send, serve
from ftlab.cli.columns import add_columns, named_columns
from ftlab.cli.output import Progress, print_json, say
from ftlab.config import DataConfig
from ftlab.data.named import remember
from ftlab.errors import FtlabError, InputError
from ftlab.run_directory import RunDirectory
from ftlab.workspace import Workspace

Add = Callable[..., argparse.ArgumentParser]
_POLL_SECONDS = 0.5
_TEST = "title or id of the test, the beginning of its id, or `last`"


def register(group: Any, add: Add) -> None:
    """Add the commands to the group `arena`; `add(group, name, command, help)` is the one of `cli`."""
    one = add(group, "create", create, "make a blind test; its answers are made by `arena generate`")
    one.add_argument("--title", help="raters do not see it (default: the contestants)")
    one.add_argument(
        "--contestant",
        action="append",
        default=[],
        metavar="WHO",
        help="twice or more, the one to be tested last: base (that of the runs beside it), base=HUB-ID, run:ID, "
        'run:ID@STRENGTH, https://host/v1#model, or JSON such as {"kind": "base", "title": "Prompted", '
        '"system_prompt": "...", "examples": [[{"role": "user", "content": "..."}, '
        '{"role": "assistant", "content": "..."}]]}',
    )
    one.add_argument(
        "--prompts",
        help="a file (JSONL, CSV, or a prompt on each line of a .txt), data, or run:ID for its held-out rows "
        "(default: those of the last run among the contestants)",
    )
    add_columns(one)
    one.add_argument("--number", type=int, help="take so many of the prompts, at random")
    one.add_argument("--topic", metavar="COLUMN", help="the column that sorts the prompts; each topic has its share")
    one.add_argument("--votes-per-prompt", type=int, default=1)
    one.add_argument("--overlap", type=float, default=1.0, help="share of the prompts that get so many votes")
    one.add_argument("--planned", type=int, help="planned number of votes (default: all that the test can give)")
    one.add_argument("--rubric", default="overall", help="comma-separated: overall, correctness, completeness, ...")
    one.add_argument("--options", default="left,right,both_good,both_bad,skip")
    one.add_argument("--instructions", default="", help="what raters read before they begin")
    one.add_argument("--max-new-tokens", type=int, default=256)
    one.add_argument("--seed", type=int, default=0, help="draws the prompts of --number; sides are always secret")
    one.add_argument("--live", action="store_true", help="raters write the prompts")
    one = add(group, "generate", generate, "make the answers of all contestants; goes on where it was stopped")
    one.add_argument("test", nargs="?", default="last", help=_TEST)
    one.add_argument("--detach", action="store_true", help="start it and return at once")
    one = add(group, "serve", serve, "open a test, print the links of its raters, and serve their page")
    one.add_argument("test", nargs="?", default="last", help=_TEST)
    one.add_argument("--raters", default="", metavar="NAME,NAME", help="a link for each new name, or a number of links")
    one.add_argument("--open-link", action="store_true", help="one link that everybody may use who gives a name")
    one.add_argument("--host", default="127.0.0.1")
    one.add_argument("--port", type=int)
    one.add_argument("--share", action="store_true", help="a public link through gradio's servers")
    add_allow_host(one)
    one = add(group, "send", send, "open a test and send it to a server elsewhere, by way of a data set on the Hub")
    one.add_argument("test", nargs="?", default="last", help=_TEST)
    one.add_argument("--to", required=True, metavar="OWNER/NAME", help="private data set; FTLAB_SPACE_STORE there")
    one.add_argument("--raters", default="", metavar="NAME,NAME", help="a link for each new name, or a number of links")
    one.add_argument("--open-link", action="store_true", help="one link that everybody may use who gives a name")
    one.add_argument("--url", default="https://OWNER-NAME.hf.space", help="the address of that server, for the links")
    one = add(group, "fetch", fetch, "bring tests that were sent back, with their votes")
    one.add_argument("--from", required=True, dest="source", metavar="OWNER/NAME")
    one = add(group, "verdict", verdict, "what the votes say, once they may be seen")
    one.add_argument("test", nargs="?", default="last", help=_TEST)
    one.add_argument("--early", action="store_true", help="look before the planned number; every report will say so")
    one.add_argument("--close", action="store_true", help="take no more votes first")
    one.add_argument("--report", type=Path, help="where to write the report (HTML)")
    one = add(group, "raters", list_raters, "who votes: how they came, their votes, who shares a network address")
    one.add_argument("test", nargs="?", default="last", help=_TEST)
    one = add(group, "void", void, "take the votes of a rater out of the count, which every verdict will say")
    one.add_argument("rater", metavar="RATER", help="the name of the rater, as `arena raters` lists it")
    one.add_argument("test", nargs="?", default="last", help=_TEST)
    one = add(group, "export", export, "the votes as training data for DPO and KTO, with their provenance")
    one.add_argument("test", nargs="?", default="last", help=_TEST)
    one.add_argument("--out", type=Path, metavar="FOLDER", help="default: a folder of the test in the workspace")
    add(group, "list", list_tests, "all blind tests with their state and votes")
    one = add(
        group, "loop", loop, "SFT, blind test, votes, DPO, blind test on fresh prompts; simulated raters (3 minutes)"
    )
    one.add_argument("--data", default="brand_voice")
    one.add_argument("--base", default="starter")
    one.add_argument("--prompts", help="where prompts come from (default: the held-out rows of the data)")
    one.add_argument("--prompts-per-test", type=int)
    one.add_argument("--raters", type=int, help="simulated raters; each votes on every prompt")
    one.add_argument("--seed", type=int, default=0)


def create(given: argparse.Namespace) -> int:
    from ftlab.arena import prompt_sources, tests
    from ftlab.arena.answers import check_generation
    from ftlab.arena.power import plan_in_words

    workspace, store = open_given(given)
    among = titled(read_contestants(given.contestant, workspace))
    how = tests.TestSettings(
        check_generation({"max_new_tokens": given.max_new_tokens}),
        options=split_words(given.options),
        rubric=split_words(given.rubric),
        instructions=given.instructions,
        votes_per_prompt=given.votes_per_prompt,
        overlap=given.overlap,
        live=given.live,
    )
    asked, left_out = [], 0
    if not given.live:
        specs = [one.spec for one in among]
        asked, left_out = prompt_sources.fresh(
            read_prompts(given.prompts, given.topic, specs, workspace, named_columns(given)), specs, workspace
        )
        asked = prompt_sources.sample(asked, given.number, by_topic=bool(given.topic), seed=given.seed)
    planned = given.planned or tests.capacity(len(among), len(asked), how)
    if planned is None:
        raise InputError("A live test has no end of its own", try_="--planned with the number of votes to wait for")
    title = given.title or " against ".join(one.title for one in among)
    test_id = tests.create_test(store, title, among, asked, how, planned)
    if given.prompts and (columns := named_columns(given)):
        remember(DataConfig(source=given.prompts, columns=columns), workspace)
    shape = {"overlap": given.overlap, "contestants": len(among)}
    words = plan_in_words(planned, len(asked) if asked else None, given.votes_per_prompt, **shape)
    if given.json:
        told = {"test": test_id, "title": title, "prompts": len(asked), "left_out": left_out, "planned": planned}
        print_json(told | {"power": words})
        return 0
    print(f"test       {test_id}  {title}")
    print(
        f"prompts    {len(asked)}"
        + (f", {left_out} left out: they or near copies trained a contestant" if left_out else "")
    )
    print(f"planned    {planned} votes")
    if words:
        print(words)
    say("Next: python -m ftlab arena " + ("serve" if given.live else "generate"))
    return 0


def generate(given: argparse.Namespace) -> int:
    from ftlab.arena import answering, tests

    workspace, store = open_given(given)
    test = find(store, given.test)
    if test.settings["live"]:
        raise InputError("In a live test the answers are made while raters write", try_="python -m ftlab arena serve")
    answering.start(workspace, test.id)
    if given.detach:
        say("It goes on by itself. See it with: python -m ftlab arena list")
        return 0
    show = Progress()
    while True:
        try:
            status, found = answering.status(workspace, test.id), tests.progress(store, test.id)
            if status is None or not status.is_active:
                break
            show(f"{status.state}: answers", found["answers"], found["answers_wanted"])
            time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            say(answering.stop(workspace, test.id))
    show.close(f"{found['answers']} of {found['answers_wanted']} answers are there")
    if status is not None and status.state == "failed" and status.error:
        raise FtlabError(status.error["what"], why=status.error.get("why"), try_=status.error.get("try"))
    flags = print_flags(store, test.id, quiet=given.json)
    if given.json:
        print_json(
            {"test": test.id, "state": found["state"], "answers": found["answers"], "flags": flags}
            | {"wanted": found["answers_wanted"]}
        )
    return 0 if found["state"] != "generating" else 130


def verdict(given: argparse.Namespace) -> int:
    from ftlab.arena import tests
    from ftlab.arena.tally import evaluate, watch
    from ftlab.sharing.arena_report import check_lines, write_arena_report

    _, store = open_given(given)
    test = find(store, given.test)
    if given.close:
        tests.close_test(store, test.id)
    if tests.revealed(store, test.id) is None and test.state == "open" and not watch(store, test.id) and given.early:
        tests.open_early(store, test.id)
    if tests.revealed(store, test.id) is None:
        now = tests.progress(store, test.id)
        said = f"The tally is hidden: {now['votes']} of {now['planned']} planned votes are in."
        if given.json:
            print_json({"test": test.id, "revealed": None, "votes": now["votes"], "planned": now["planned"]})
        else:
            print(said)
            say("It is shown at the planned number. --early opens it before, which every report will say.")
        return 0
    found = evaluate(store, test.id)
    report = write_arena_report(store, test.id, given.report)
    if given.json:
        print_json({"test": test.id, "report": str(report)} | found)
        return 0
    print(found["text"])
    print()
    for one in found["contestants"]:
        print(f"{one['title']:<32} won {found['counts']['wins'][one['id']]:,}")
    for label, text in check_lines(found):
        print(f"{label:<20} {text}")
    for note in found["notes"]:
        print(f"note: {note}")
    print(f"\nreport     {report}")
    return 0


def list_raters(given: argparse.Namespace) -> int:
    from ftlab.arena import tests

    _, store = open_given(given)
    test = find(store, given.test)
    people = tests.progress(store, test.id)["raters"]
    if given.json:
        print_json({"test": test.id, "raters": people})
        return 0
    names = {one["number"]: one["pseudonym"] for one in people}
    for one in people:
        how = ["by the open link"] if one["open_link"] else []
        how += ["votes voided"] if one["voided"] else ["link ended"] if one["revoked"] else []
        beside = ", ".join(names[number] for number in one["beside"][:5])
        how += [f"same network address as {beside}"] if beside else []
        print(f"{one['pseudonym']:<30} {one['votes']:>5} votes  {'; '.join(how)}".rstrip())
    if not people:
        say("Nobody has a link yet: python -m ftlab arena serve --raters Ana,Ben")
    return 0


def void(given: argparse.Namespace) -> int:
    from ftlab.arena import links, tests

    _, store = open_given(given)
    test = find(store, given.test)
    people = {one["pseudonym"]: one["id"] for one in tests.progress(store, test.id)["raters"]}
    if given.rater not in people:
        known = ", ".join(people) or "nobody yet"
        raise InputError("There is no such rater in this test", given=given.rater, allowed=known[:500])
    links.void(store, people[given.rater])
    now = tests.progress(store, test.id)
    if given.json:
        print_json({"test": test.id, "rater": given.rater, "votes": now["votes"], "voided": now["voided"]})
        return 0
    print(f"{given.rater} is out of the count: {now['votes']} of {now['planned']} planned votes are in.")
    return 0


def export(given: argparse.Namespace) -> int:
    from ftlab.arena import preferences

    workspace, store = open_given(given)
    test = find(store, given.test)
    folder, found = preferences.export(store, test.id, given.out)
    if given.json:
        print_json({"test": test.id, "folder": str(folder)} | found.summary())
        return 0
    print(found.text())
    print(f"folder     {folder}")
    if found.pairs:
        settings = ["stage=dpo", f"data.source={folder / preferences.DPO_FILE}"]
        settings += learning_from(store, test.id, workspace) or ["model.base=..."]
        where = ["--workspace", str(given.workspace)] if given.workspace else []
        words = [word for one in settings for word in ("--set", one)]
        say(f"Next: python -m ftlab train {shlex.join([*words, *where])}")
    return 0


def list_tests(given: argparse.Namespace) -> int:
    from ftlab.arena import tests

    _, store = open_given(given)
    rows = []
    for test in tests.list_tests(store):
        now = tests.progress(store, test.id)
        rows.append({"test": test.id, "title": test.title} | {key: now[key] for key in now if key != "raters"})
    if given.json:
        print_json({"tests": rows})
        return 0
    if not rows:
        say("No blind tests yet. Make one with: python -m ftlab arena create")
    for row in rows:
        print(
            f"{row['test']:<18} {row['state']:<11} {row['answers']}/{row['answers_wanted']} answers  "
            f"{row['votes']}/{row['planned']} votes  {row['title']}"
        )
    return 0


def loop(given: argparse.Namespace) -> int:
    from ftlab.arena.loop import LoopSettings, run_loop, starter_settings

    workspace = Workspace.open(given.workspace)
    settings = starter_settings()
    if (given.data, given.base) != (settings.source, settings.base):
        settings = LoopSettings(source=given.data, base=given.base)
    wanted = {"prompts": given.prompts, "prompts_per_test": given.prompts_per_test, "raters": given.raters}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    settings = replace(settings, seed=given.seed, **wanted)
    found = run_loop(workspace, lambda run: _train(run, workspace), settings, tell=say)
    if given.json:
        print_json(found)
    else:
        print(found["verdicts"][1]["text"])
        say(f"See both tests with: python -m ftlab arena list{workspace.flag}")
    return 0


def _train(settings: dict[str, Any], workspace: Workspace) -> RunDirectory:
    """A run as the app starts it, to its end."""
    from ftlab import api

    run = api.train(workspace=workspace.root, **settings).wait(show=False)
    if run.status.state != "completed":
        look = f"python -m ftlab runs show {run.id}{workspace.flag}"
        raise FtlabError(f"The run {run.id} is {run.status.state}", try_=look)
    return workspace.run(run.id)
