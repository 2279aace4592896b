"""`python -m ftlab serve RUN`: base and adapted model for programs on this machine, over OpenAI's protocol."""

from __future__ import annotations

import argparse

from ftlab.cli.app import add_allow_host
from ftlab.cli.output import say
from ftlab.cli.parser import Parser, add_run, add_strength, define
from ftlab.core.workspace import Workspace


def add_serve(parser: Parser) -> None:
    define(parser, serve, "serve last --port 8000", as_json=False)
    add_run(parser)
    parser.add_argument("--port", type=int, default=8000, help="port on 127.0.0.1; 0: any free one (default: 8000)")
    parser.add_argument(
        "--bare", action="store_true", help="send messages unchanged, without prompt template, system prompt and tools"
    )
    add_strength(parser)
    add_allow_host(parser)


def serve(args: argparse.Namespace) -> int:
    from ftlab.export import serve as server

    run = Workspace.open(args.workspace).run(args.run)
    key, is_new = server.serving_key()
    say("Loading the models ...")
    served = server.prepare(run, key, bare=args.bare, strength=args.strength)
    for line in server.described(served):
        say(line)

    def ready(url: str) -> None:
        say(f"Serving the models base and adapted of {run.id} at {url}. Stop with Ctrl-C.")
        say(f"Key, shown only here: {key}" if is_new else f"The key is the one in {server.KEY_VARIABLE}.")

    server.serve(served, args.port, args.allow_host, ready=ready)
    say("Stopped.")
    return 0
