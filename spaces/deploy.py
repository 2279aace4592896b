"""Put ftlab into a Hugging Face Space: `python spaces/deploy.py user/name --flavour lab|demo|vote [--dry-run]`.

Uploads exactly the files that the Space needs, to a private Space unless --public is said. Secrets are never uploaded:
what is to be set in the Space is printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from staging import FLAVOURS, stage

from ftlab.core import hub_sync
from ftlab.core.hub import check_name
from ftlab.core.hub_sync import make, writing
from ftlab.errors import FtlabError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="deploy.py", description="Put ftlab into a Hugging Face Space.")
    parser.add_argument("space", help="user/name of the Space; made when it is not there")
    parser.add_argument("--flavour", required=True, choices=list(FLAVOURS), help="what the Space is for")
    parser.add_argument("--run", help="demo: the run that it shows, with its model and report but without its data")
    parser.add_argument("--workspace", help="where that run lives (default: $FTLAB_HOME, else ./workspace)")
    parser.add_argument("--public", action="store_true", help="everybody may open the Space (default: only you)")
    parser.add_argument("--dry-run", action="store_true", help="list what would be uploaded, and upload nothing")
    parser.add_argument("--to", type=Path, help="put the files into this folder as well")
    given = parser.parse_args(arguments)
    try:
        check_name(given.space, "Space")
        with tempfile.TemporaryDirectory(prefix="ftlab-space-") as temporary:
            folder = given.to or Path(temporary) / "space"
            files = stage(given.flavour, folder, run=given.run, workspace=given.workspace)
            say(files)
            if given.dry_run:
                print(f"Nothing was uploaded. {'Public' if given.public else 'Private'} Space: {given.space}")
            else:
                print(f"The Space is at {upload(given.space, folder, public=given.public)}")
        tell_settings(given.flavour, given.space)
    except FtlabError as error:
        print(f"deploy.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def say(files: dict[str, int]) -> None:
    """Every file with its size."""
    for path, size in files.items():
        print(f"{size:>12,}  {path}")
    print(f"{sum(files.values()):>12,}  bytes in {len(files)} files")


def upload(space: str, folder: Path, *, public: bool) -> str:
    """Make the Space where it is missing, and replace what is in it by the files of `folder`, in one commit.

    Returns its address. Raises InputError or FtlabError when the Hub does not take it."""
    with writing("space", space) as api:
        address = make(api, space, "space", private=not public)
        hub_sync.upload(api, space, "space", folder, "ftlab", replaced=["ftlab/*", "run/*"])
    return address


def tell_settings(flavour: str, space: str) -> None:
    """What the owner sets in the Space by hand."""
    print(f"\nSet at https://huggingface.co/spaces/{space}/settings, under Variables and secrets:")
    for name, secret, what in FLAVOURS[flavour].settings:
        print(f"  {name:<20} {'secret' if secret else 'variable':<9} {what}")
    if flavour == "lab":
        print("Until FTLAB_OWNER or FTLAB_PASSWORD is set, nobody can train there, you neither.")


if __name__ == "__main__":
    sys.exit(main())
