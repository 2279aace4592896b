"""`python -m ftlab app` and `python app.py`: the same options, and the same app."""

from __future__ import annotations

import argparse


def add_options(parser: argparse.ArgumentParser, *, host: str = "127.0.0.1") -> None:
    """What says where the app is served and who may use it; `host` is the usual address."""
    parser.add_argument(
        "--host",
        default=host,
        help="address to listen on; 0.0.0.0 lets the whole network in, with a password (default: %(default)s)",
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument(
        "--share",
        action="store_true",
        help="a public link through gradio's servers; needs a password: $FTLAB_PASSWORD, or asked for at the terminal",
    )
    parser.add_argument("--open", action="store_true", help="no password: everybody who reaches the app can use it")
    add_allow_host(parser)
    parser.add_argument("--mcp", action="store_true", help="offer the endpoints for programs to agents too (MCP)")


def add_allow_host(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="answer to this name, too, such as that of a proxy (repeatable; or $FTLAB_ALLOW_HOST, with commas)",
    )


def app(given: argparse.Namespace) -> int:
    from ftlab.ui.app import launch

    shown = {"host": given.host, "port": given.port, "share": given.share, "mcp": given.mcp}
    launch(given.workspace, open_to_all=given.open, allow_hosts=given.allow_host, **shown)
    return 0
