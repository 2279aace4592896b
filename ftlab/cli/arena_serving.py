"""`python -m ftlab arena serve | send | fetch`: raters vote here, or on a server elsewhere."""

from __future__ import annotations

import argparse
import time
from typing import Any

from ftlab.cli.arena_inputs import find_test, open_tests, print_flags, split_words
from ftlab.cli.output import Progress, print_json, print_result, say

_LOOK_SECONDS = 15.0


def serve(args: argparse.Namespace) -> int:
    from ftlab.arena import blind_tests

    workspace, store = open_tests(args)
    test = find_test(store, args.test)
    opened = _open_for(store, test, args)
    # Gradio takes seconds to import: mistakes in the options are reported first.
    from ftlab.arena.live import ask_models
    from ftlab.arena.tally import watch
    from ftlab.ui.rater import launch_rater_app

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
                progress.line(f"{counts['votes']} of {counts['planned']} votes{enough}", "votes")
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
    return print_result(args, {"votes": votes}, *(f"{test_id}  {count} votes" for test_id, count in votes.items()))


def _open_for(store: Any, test: Any, args: argparse.Namespace) -> str | None:
    """Open the test and create links for --raters and --open-link; returns the token of the open link."""
    from ftlab.arena import blind_tests, links

    if test.state != "open":
        print_flags(store, test.id, quiet=args.json)
        blind_tests.open_test(store, test.id)
    names = [""] * int(args.raters) if args.raters.isdecimal() else list(split_words(args.raters))
    links.create_raters(store, test.id, names)
    return links.open_link(store, test.id) if args.open_link else None


def _print_links(store: Any, test_id: str, url: str, opened: str | None, args: argparse.Namespace) -> None:
    from ftlab.arena import links
    from ftlab.ui.rater import rater_address

    addresses = {link.pseudonym: rater_address(url, link.token) for link in links.links(store, test_id)}
    if opened:
        addresses["everybody"] = rater_address(url, opened)
    if not addresses:
        say("No one can vote yet: add --raters Ana,Ben or --open-link")
    if args.json:
        print_json({"test": test_id, "url": url, "links": addresses})
    else:
        for name, address in addresses.items():
            print(f"{name:<20} {address}", flush=True)
