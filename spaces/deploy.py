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

from ftlab.core.hub import check_name, told
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
    from huggingface_hub import HfApi

    api = HfApi()
    with told("Space", space, doing=f"write to {space}"):
        made = api.create_repo(space, repo_type="space", space_sdk="gradio", private=not public, exist_ok=True)
        about = api.repo_info(space, repo_type="space")
        if not public and about.private is False:
            raise FtlabError(
                f"The Space {space} is there already, and everybody can open it",
                try_="--public when that is meant, or make it private in its settings",
            )
        api.upload_folder(
            repo_id=space,
            repo_type="space",
            folder_path=folder,
            commit_message="ftlab",
            delete_patterns=["ftlab/*", "run/*"],
        )
    return str(made)


def tell_settings(flavour: str, space: str) -> None:
    """What the owner sets in the Space by hand."""
    print(f"\nSet at https://huggingface.co/spaces/{space}/settings, under Variables and secrets:")
    for name, secret, what in FLAVOURS[flavour].settings:
        print(f"  {name:<20} {'secret' if secret else 'variable':<9} {what}")
    if flavour == "lab":
        print("Until FTLAB_OWNER or FTLAB_PASSWORD is set, nobody can train there, you neither.")


if __name__ == "__main__":
    sys.exit(main())
