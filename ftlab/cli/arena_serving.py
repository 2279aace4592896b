"""`python -m ftlab arena serve | send | fetch`: raters vote here, or on a server elsewhere."""

from __future__ import annotations

import argparse
import time
from typing import Any

from ftlab.cli.arena_given import find, open_given, print_flags, split_words
from ftlab.cli.output import Progress, print_json, say

_LOOK_SECONDS = 15.0


def serve(given: argparse.Namespace) -> int:
    from ftlab.arena import tests
    from ftlab.arena.live import ask_models
    from ftlab.arena.tally import watch
    from ftlab.ui.rater import launch_rater_app

    workspace, store = open_given(given)
    test = find(store, given.test)
    # Made before the page is served, so that a mistake in them is told at once.
    opened = _open_for(store, test, given)
    _, url = launch_rater_app(
        workspace.root,
        host=given.host,
        port=given.port,
        share=given.share,
        ask_models=ask_models,
        allow_hosts=given.allow_host,
    )
    _print_links(store, test.id, url, opened, given)
    say("Ctrl-C ends the page; votes are kept, and the same links work the next time on the same address.")
    show = Progress()
    before = -1
    try:
        while True:
            now = tests.progress(store, test.id)
            if now["votes"] != before:
                before = now["votes"]
                # It tells nobody in which direction: only that enough is known.
                ended = "" if now["revealed"] or not watch(store, test.id) else "  the evidence suffices"
                show.line(f"{now['votes']} of {now['planned']} votes{ended}", "votes")
            time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        show.close("The page is closed.")
    return 0


def send(given: argparse.Namespace) -> int:
    from ftlab.arena import exchange

    _, store = open_given(given)
    test = find(store, given.test)
    opened = _open_for(store, test, given)
    exchange.send(store, test.id, given.to)
    _print_links(store, test.id, given.url, opened, given)
    say(f"It is in {given.to}. The server needs FTLAB_SPACE_STORE={given.to}, and the FTLAB_SECRET of this workspace:")
    say(
        f"that variable, or the content of {store.workspace.arena_secret}. Then: python -m ftlab arena fetch --from ..."
    )
    return 0


def fetch(given: argparse.Namespace) -> int:
    from ftlab.arena import exchange, tests

    _, store = open_given(given)
    found = {test_id: tests.progress(store, test_id)["votes"] for test_id in exchange.fetch(store, given.source)}
    if given.json:
        print_json({"votes": found})
    else:
        for test_id, count in found.items():
            print(f"{test_id}  {count} votes")
    return 0


def _open_for(store: Any, test: Any, given: argparse.Namespace) -> str | None:
    """Open the test and make the links that are asked for; returns the token of the open one."""
    from ftlab.arena import links, tests

    if test.state != "open":
        print_flags(store, test.id, quiet=given.json)
        tests.open_test(store, test.id)
    names = [""] * int(given.raters) if given.raters.isdecimal() else list(split_words(given.raters))
    links.create_raters(store, test.id, names)
    return links.open_link(store, test.id) if given.open_link else None


def _print_links(store: Any, test_id: str, url: str, opened: str | None, given: argparse.Namespace) -> None:
    from ftlab.arena import links
    from ftlab.ui.rater import rater_address

    found = {one.pseudonym: rater_address(url, one.token) for one in links.links(store, test_id)}
    if opened:
        found["everybody"] = rater_address(url, opened)
    if not found:
        say("Nobody can vote yet: add --raters Ana,Ben or --open-link")
    if given.json:
        print_json({"test": test_id, "url": url, "links": found})
    else:
        for name, link in found.items():
            print(f"{name:<20} {link}", flush=True)
