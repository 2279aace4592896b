"""Data on show as a file to download, and as a data set for the Hub."""

from __future__ import annotations

import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data.versions import PREFIX
from ftlab.errors import InputError
from ftlab.ui.events import offer_file
from ftlab.ui.html import count, details, join, notice, preformatted, table
from ftlab.ui.hub_account import in_a_space


def download(data: DataConfig, kind: str, workspace: Workspace) -> tuple[dict[str, Any], Markup]:
    """The update that offers the file (a zip of several splits), and what is in it in words."""
    from ftlab.data.export import export

    name = _file_name(data)
    with tempfile.TemporaryDirectory() as folder:
        done = export(data, Path(folder) / "rows", kind, workspace)  # type: ignore[arg-type]
        paths = [Path(path) for path in done.files]
        if len(paths) == 1:
            offered = offer_file(paths[0], name + paths[0].suffix)
        else:
            packed = Path(folder) / "rows.zip"
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in paths:
                    archive.write(path, path.name)
            offered = offer_file(packed, f"{name}.zip")
    saved = ", ".join(f"{rows:,} rows of {Path(path).stem}" for path, rows in done.files.items())
    lines = [f"{count(rows)} left out: {reason}." for reason, rows in done.left_out.items()]
    lines += done.notes or []
    listed = join(Markup("<li>{}</li>").format(line) for line in lines)
    said = Markup('<div class="ft-box ft-good" role="status">Saved {}.{}</div>').format(
        saved, Markup("<ul>{}</ul>").format(listed) if lines else " Nothing was left out."
    )
    return offered, said


def hub_card(data: DataConfig, repository: str, private: bool, licence: str, *, workspace: Workspace) -> Markup:
    """What would go to the Hub: the files and the card. Nothing is sent and no network is used."""
    from huggingface_hub import get_token

    from ftlab.data.export import push

    done = push(
        data, _named(repository), workspace, private=private, dry_run=True, licence=(licence or "").strip() or None
    )
    files = table(
        ["File", "Bytes"], [[name, count(size)] for name, size in done.files.items()], label="Files", numbers=(1,)
    )
    where = notice(
        f"This would go to the {'private' if private else 'public'} data set {done.repository}. "
        + ("Only you can read it." if private else "Everybody can read it."),
        kind="info" if private else "warn",
    )
    missing = Markup(
        '<div class="ft-box ft-warn">No token was found: run <code>hf auth login</code> in a terminal first.</div>'
    )
    token = "" if in_a_space() or get_token() else missing
    return join([where, token, files, details("The card (README.md)", preformatted(done.card, label="Card"))])


def send_to_hub(
    data: DataConfig, repository: str, private: bool, licence: str, *, workspace: Workspace, token: str | None
) -> str:
    """Send it; the address of the data set."""
    from ftlab.data.export import push

    licence = (licence or "").strip()
    done = push(data, _named(repository), workspace, private=private, licence=licence or None, token=token)
    return str(done.address)


def _named(repository: str | None) -> str:
    name = (repository or "").strip()
    if not name:
        raise InputError("The data set has no name on the Hub yet", allowed="owner/name")
    return name


def _file_name(data: DataConfig) -> str:
    """A safe name for the file: the version's id, or the source's name."""
    name = data.source.removeprefix(PREFIX) if data.source.startswith(PREFIX) else Path(data.source).stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:80] or "data"
