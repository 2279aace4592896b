"""Open the app: `python app.py`. On a laptop at 127.0.0.1, on Colab with a public link, in a Space on its address."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ftlab.cli.app import add_options, app
from ftlab.errors import FtlabError


def main(arguments: list[str] | None = None) -> int:
    in_space = bool(os.environ.get("SPACE_ID"))
    parser = argparse.ArgumentParser(prog="app.py", description="ftlab in the browser.")
    parser.add_argument("--workspace", type=Path, help="folder for runs (default: $FTLAB_HOME, else ./workspace)")
    add_options(parser, host="0.0.0.0" if in_space else "127.0.0.1")
    given = parser.parse_args(arguments)
    try:
        return app(given)
    except FtlabError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
