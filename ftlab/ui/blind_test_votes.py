"""Votes as data: a zip to download, and what the Preferences tab is to be filled with."""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.arena import tally
from ftlab.arena.blind_tests import list_contestants
from ftlab.arena.preferences import DPO_FILE, KTO_FILE, export
from ftlab.arena.store import Store
from ftlab.core.workspace import Workspace
from ftlab.data.splits import FEWEST_ROWS
from ftlab.ui import disk
from ftlab.ui.events import offer_file
from ftlab.ui.preferences import start_choices


@dataclass(frozen=True)
class Lesson:
    """What the votes teach: the data, the stage that learns from them, and the run to go on from (empty: the base)."""

    source: str
    stage: str
    start: str
    base: str | None
    said: str


def download(store: Store, test_id: str) -> tuple[dict[str, Any], str]:
    """The update that offers the zip, and what is in it in words. Raises InputError while the tally is hidden."""
    folder, found = export(store, test_id)
    with tempfile.TemporaryDirectory() as place:
        packed = Path(place) / "votes.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.glob("*.json*")):
                archive.write(file, file.name)
        return offer_file(packed, "votes.zip"), found.text()


def lesson(store: Store, test_id: str, workspace: Workspace) -> Lesson:
    """Write the votes as data and say how to learn from them: pairs by DPO, judged answers alone by KTO.

    Training goes on from the contestant that the raters preferred, where it is a run that can be trained further, else
    from the last such contestant. Raises InputError while the tally is hidden, or when no vote can be learnt from.
    """
    folder, found = export(store, test_id)
    stage = "dpo" if found.pairs else "kto"
    among = {one.id: one.spec for one in list_contestants(store, test_id)}
    winner = tally.evaluate(store, test_id).get("winner")
    order = [among[winner]] if winner in among else []
    order += reversed(among.values())
    startable = {value for _, value in start_choices(workspace)}
    start = next((spec["run"] for spec in order if spec.get("run") in startable), "")
    config = disk.config(workspace.run(start)) if start else None
    base = config.model.base if config else next((spec["base"] for spec in order if spec.get("base")), None)
    said = found.text()
    rows = len(found.pairs if found.pairs else found.judged)
    if rows < FEWEST_ROWS:
        said += f" A run needs at least {FEWEST_ROWS} rows to learn from: add votes or other preferences."
    return Lesson(str(folder / (DPO_FILE if found.pairs else KTO_FILE)), stage, start, base, said)
