"""Open the app: `python app.py`. On a laptop at 127.0.0.1, on Colab with a public link, in a Space on its address."""

from __future__ import annotations

import os
import sys

from ftlab.cli.app import add_options, app
from ftlab.cli.parser import Parser, UsageError, add_workspace
from ftlab.errors import FtlabError


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="app.py", description="Open ftlab in the browser.")
    add_workspace(parser)
    add_options(parser, host="0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1")
    try:
        return app(parser.parse_args(arguments))
    except FtlabError as error:
        if isinstance(error, UsageError):
            parser.print_usage(sys.stderr)
        print(f"app.py: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
