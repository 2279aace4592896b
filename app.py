"""Open the app: `python app.py`. On a laptop at 127.0.0.1, on Colab with a public link, in a Space on its address."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ftlab.errors import FtlabError


def main(arguments: list[str] | None = None) -> int:
    in_space = bool(os.environ.get("SPACE_ID"))
    parser = argparse.ArgumentParser(prog="app.py", description="ftlab in the browser.")
    parser.add_argument("--workspace", type=Path, help="folder for runs (default: $FTLAB_HOME, else ./workspace)")
    parser.add_argument(
        "--host",
        default="0.0.0.0" if in_space else "127.0.0.1",
        help="address to listen on; 0.0.0.0 lets the whole network in, with a password (default: %(default)s)",
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument(
        "--share",
        action="store_true",
        help="a public link through gradio's servers; needs a password: $FTLAB_PASSWORD, or asked for at the terminal",
    )
    parser.add_argument("--open", action="store_true", help="no password: everybody who reaches the app can use it")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="answer to this name, too, such as that of a proxy (repeatable; or $FTLAB_ALLOW_HOST, with commas)",
    )
    parser.add_argument("--mcp", action="store_true", help="offer the endpoints for programs to agents too (MCP)")
    given = parser.parse_args(arguments)
    try:
        from ftlab.ui.app import launch

        shown = {"host": given.host, "port": given.port, "share": given.share, "mcp": given.mcp}
        launch(given.workspace, open_to_all=given.open, allow_hosts=given.allow_host, **shown)
    except FtlabError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
