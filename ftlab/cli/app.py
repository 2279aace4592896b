"""`python -m ftlab app` and `python app.py`: the same options, and the same app."""

from __future__ import annotations

import argparse

from ftlab.cli.parser import Parser, define


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
