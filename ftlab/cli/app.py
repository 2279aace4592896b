"""`python -m ftlab app` and `python app.py`: the same options, and the same app. `python -m ftlab serve RUN`: base and
adapted model for programs on this machine, over OpenAI's protocol."""

from __future__ import annotations

import argparse

from ftlab.cli.output import say
from ftlab.cli.parser import Parser, add_run, add_strength, define
from ftlab.core.workspace import Workspace


def add_app(parser: Parser) -> None:
    define(parser, app, "app --port 7861", as_json=False)
    add_options(parser)


def add_options(parser: argparse.ArgumentParser, *, host: str = "127.0.0.1") -> None:
    """Where the app is served and who may use it; `host` is the default address."""
    parser.add_argument(
        "--host",
        default=host,
        help="address to listen on; 0.0.0.0 opens the app to the network and needs a password (default: %(default)s)",
    )
    add_port(parser)
    parser.add_argument(
        "--share",
        action="store_true",
        help="create a public link through gradio's servers; needs a password ($FTLAB_PASSWORD, or typed when asked)",
    )
    parser.add_argument("--open", action="store_true", help="no password: anyone who reaches the app can use it")
    add_allow_host(parser)
    parser.add_argument("--mcp", action="store_true", help="also serve the API endpoints to agents (MCP)")


def add_port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, help="port (default: the first free port from 7860)")


def add_allow_host(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="also answer to this host name, such as that of a proxy (repeatable; or $FTLAB_ALLOW_HOST, with commas)",
    )


def app(args: argparse.Namespace) -> int:
    from ftlab.ui.launch import launch

    server = {"host": args.host, "port": args.port, "share": args.share, "mcp": args.mcp}
    launch(args.workspace, open_to_all=args.open, allow_hosts=args.allow_host, **server)
    return 0


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
