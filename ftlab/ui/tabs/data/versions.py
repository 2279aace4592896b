"""Versions: the history and differences of a data set, and controls to split, save, share and delete versions.

elem_ids: `data_versions_about`, `data_versions_set`, `data_versions_history` (a press on a version shows it),
`data_versions_first`, `data_versions_message`, `data_versions_who`, `data_versions_why`; folded: compare
(`data_versions_compare_box`: `_before`, `_after`, `_compare`, `_diff`, `_diff_previous`, `_diff_next`), split
(`data_versions_split_box`: a field each, `_split`, `_split_message`), file (`data_versions_export_box`: `_kind`,
`_export`, `_file`, `_exported`), Hub (`data_versions_hub_box`: `_repository`, `_licence`, `_private`, `_preview`,
`_send`, `_card`), delete (`data_versions_delete_box`: `_doomed`, `_delete`, `_confirm`, `_force`, `_yes`, `_no`).
"""

from __future__ import annotations

import re
import secrets
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import DataConfig, RunConfig, build_config
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.version_store import PREFIX, Version, find, history
from ftlab.data.versions import create, delete, used_by
from ftlab.errors import FtlabError, InputError
from ftlab.ui.kit.events import offer_file, on, press
from ftlab.ui.kit.html import count, details, join, list_items, notice, preformatted, table
from ftlab.ui.kit.hub_account import in_a_space, upload_token
from ftlab.ui.kit.person import remember, remembered
from ftlab.ui.run_names import version_name
from ftlab.ui.tabs.data import versions_view as version_views
from ftlab.ui.tabs.data.sources import DataContext, config_of, source_choices, version_title
from ftlab.ui.tabs.data.versions_layout import Panel, build

__all__ = ["build", "show", "views", "wire"]


def wire(panel: Panel, context: DataContext) -> None:
    workspace = context.workspace
    boxes = [panel.message, panel.split_message, panel.delete_message]

    def follow(config_json: str | None, who: str, kept: str | None) -> dict[Any, Any]:
        # The message of a press stays while its result is loaded.
        stays = config_json is not None and config_of(config_json).source == kept
        cleared = {} if stays else dict.fromkeys(boxes, "")
        return {
            **({panel.who: who} if who else {}),
            panel.kept: None,
            **cleared,
            **_shown(panel, config_json, workspace),
        }

    def opened(version: Version) -> dict[Any, Any]:
        return {panel.kept: version.source, **context.open(version.source)}

    def choose(name: str | None, config_json: str | None) -> dict[Any, Any]:
        return _of_set(panel, name, config_json, workspace)

    def pick(event: gr.EventData) -> dict[Any, Any]:
        version = find(str(event._data["value"]), workspace)
        return {
            panel.message: notice(f"Open now: {version_title(version)}.", kind="good"),
            **context.open(version.source),
        }

    def first(config_json: str | None, who: str, why: str) -> dict[Any, Any]:
        version = create(config_of(config_json), workspace, who=_name(who), why=(why or "").strip())
        text = f"Made version {version.number} of {version_name(version.name)}: {version.total:,} rows as they were."
        return {panel.message: notice(text, kind="good"), panel.why: "", **opened(version)}

    def compare(before: str | None, after: str | None, page: int) -> dict[Any, Any]:
        if not before or not after:
            raise InputError("Comparing takes two versions", try_="choose one before and one after")
        last = version_views.pages(before, after, workspace)
        page = min(max(1, page), last)
        return {
            panel.diff: version_views.difference(before, after, page, workspace),
            panel.page: page,
            panel.pager: gr.update(visible=last > 1),
        }

    def turn(by: int) -> Any:
        return lambda before, after, page: compare(before, after, page + by)

    def split(config_json: str | None, who: str, why: str, *values: Any) -> dict[Any, Any]:
        from ftlab.data.splits import split_version

        chosen = panel.form.collect(values).get("data", {})
        data = build_config({"data": config_of(config_json).model_dump() | chosen}).data
        version, notes = split_version(data, workspace, who=_name(who), why=(why or "").strip())
        sizes = ", ".join(f"{size:,} {name}" for name, size in version.rows.items())
        lines = list_items(notes)
        text = Markup(
            '<div class="ft-box ft-good" role="status">Made version {}: {}. The split is frozen.{}</div>'
        ).format(version.number, sizes, Markup("<ul>{}</ul>").format(lines) if notes else "")
        return {panel.split_message: text, panel.why: "", **opened(version)}

    def export(config_json: str | None, kind: str) -> dict[Any, Any]:
        offered, text = download(config_of(config_json), kind, workspace)
        return {panel.file: offered, panel.exported: text}

    def preview(config_json: str | None, *chosen: Any) -> dict[Any, Any]:
        card = hub_card(config_of(config_json), *chosen, workspace=workspace)
        return {panel.card: card, panel.previewed: [config_json, *chosen], panel.send: gr.update(visible=True)}

    def send(
        previewed: list[Any] | None,
        config_json: str | None,
        repository: str,
        private: bool,
        licence: str,
        token: gr.OAuthToken | None = None,  # of the logged-in user; supplied by Gradio
    ) -> dict[Any, Any]:
        if previewed != [config_json, repository, private, licence]:
            raise InputError(
                "What would be sent has changed since you reviewed it", try_="press Show what would be sent again"
            )
        usable = upload_token(token)
        address = send_to_hub(config_of(config_json), repository, private, licence, workspace=workspace, token=usable)
        return {
            panel.send_message: notice(f"Sent: {address}", kind="good"),
            panel.send: gr.update(visible=False),
            panel.previewed: None,
            panel.card: "",
        }

    def ask(doomed: str | None) -> dict[Any, Any]:
        version = _chosen(doomed, workspace)
        runs = used_by(version, workspace)
        text = Markup("<p>Delete the rows of <strong>{}</strong> for good?</p>").format(version_title(version))
        if runs:
            text += Markup("<p>It was used by {}, which could not be repeated without it: {}.</p>").format(
                "1 run" if len(runs) == 1 else f"{len(runs)} runs", ", ".join(runs)
            )
        return {
            panel.confirm: gr.update(visible=True),
            panel.question: text,
            panel.force: gr.update(visible=bool(runs), value=False),
        }

    def really(doomed: str | None, force: bool, config_json: str | None, who: str, why: str) -> dict[Any, Any]:
        version = _chosen(doomed, workspace)
        runs = used_by(version, workspace)
        if runs and not force:
            raise InputError(
                f"{version_title(version)} was used by runs and is kept",
                given=", ".join(runs[:5]),
                try_="confirm that these runs need not be repeatable, or delete the runs first",
            )
        delete(version, workspace, force=bool(force), who=_name(who), why=(why or "").strip())
        text = notice(f"Deleted the rows of {version.id}. Its history is kept.", kind="good")
        left = [other for other in history(workspace, version.name) if other.deleted is None]
        gone = config_json is not None and config_of(config_json).source == version.source
        following = left[-1].source if left else DataConfig().source
        return {
            **({} if gone else _shown(panel, config_json, workspace)),
            panel.delete_message: text,
            panel.confirm: gr.update(visible=False),
            panel.why: "",
            **({panel.kept: following, **context.open(following)} if gone else _sources(context, config_json)),
        }

    def keep() -> dict[Any, Any]:
        return {panel.confirm: gr.update(visible=False)}

    filled = [*_filled(panel), panel.who, panel.kept, *boxes]
    shows: dict[str, Any] = {"box": panel.message, "lane": "versions"}
    on(
        panel.looked.change,
        follow,
        [context.config_json, panel.who, panel.kept],
        filled,
        clears=False,
        js=remembered(3, 1),
        **shows,
    )
    panel.who.blur(None, [panel.who], js=remember(), api_visibility="private")
    on(panel.set.input, choose, [panel.set, context.config_json], _filled(panel), **shows)
    on(panel.history.pick, pick, [], [panel.kept, context.source], box=panel.message, queue=False)
    signed = [context.config_json, panel.who, panel.why]
    heavy: dict[str, Any] = {"progress": "minimal", "lane": "versions"}
    on(panel.first.click, first, signed, [panel.kept, panel.why, context.source], box=panel.message, **heavy)
    pair = [panel.before, panel.after, panel.page]
    compared = [panel.diff, panel.page, panel.pager]
    differs: dict[str, Any] = {"box": panel.diff_message, "lane": "versions"}
    on(
        panel.compare.click,
        lambda before, after: compare(before, after, 1),
        pair[:2],
        compared,
        progress="minimal",
        **differs,
    )
    for trigger, by in ((panel.previous.click, -1), (panel.next.click, 1)):
        on(trigger, turn(by), pair, compared, **differs)
    made = [panel.kept, panel.why, context.source]
    on(panel.split.click, split, [*signed, *panel.form.inputs], made, box=panel.split_message, **heavy)
    pressed = on(
        panel.export.click,
        export,
        [context.config_json, panel.kind],
        [panel.file, panel.exported],
        box=panel.export_message,
        progress="minimal",
    )
    pressed.then(None, js=press("#data_versions_file", "#data_versions_export_message"))
    goes = [context.config_json, panel.repository, panel.private, panel.licence]
    on(
        panel.preview.click,
        preview,
        goes,
        [panel.card, panel.previewed, panel.send],
        box=panel.send_message,
        progress="minimal",
    )
    on(
        panel.send.click,
        send,
        [panel.previewed, *goes],
        [panel.send, panel.previewed, panel.card],
        box=panel.send_message,
        progress="minimal",
    )
    on(
        panel.delete.click,
        ask,
        [panel.doomed],
        [panel.confirm, panel.question, panel.force],
        box=panel.delete_message,
        queue=False,
    )
    on(
        panel.yes.click,
        really,
        [panel.doomed, panel.force, *signed],
        [*_filled(panel), panel.kept, panel.why, context.source],
        box=panel.delete_message,
        **heavy,
    )
    on(panel.no.click, keep, [], [panel.confirm], box=panel.delete_message, queue=False)


def views(panel: Panel) -> list[Any]:
    """The components that `show` updates."""
    return [panel.looked]


def show(panel: Panel, config_json: str | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates for the data on display. A later event adds the name that the browser stores."""
    return {panel.looked: secrets.token_hex(8)}


def _filled(panel: Panel) -> list[Any]:
    """The components that `_shown` and `_of_set` fill."""
    return [
        *(panel.about, panel.set, panel.history, panel.first, panel.before, panel.after, panel.doomed),
        *(panel.diff, panel.pager, panel.card, panel.send, panel.exported, panel.confirm, *panel.form.inputs),
    ]


def _shown(panel: Panel, config_json: str | None, workspace: Workspace) -> dict[Any, Any]:
    names = list(dict.fromkeys(version.name for version in history(workspace)))
    name = None
    try:
        data = config_of(config_json)
        name = version_views.name_of(data, workspace)
        about = _about(data, name, workspace)
        filled = panel.form.fill(RunConfig(data=data))
    except FtlabError:
        about, filled = Markup(""), {}
    return {
        **_of_set(panel, name, config_json, workspace),
        **filled,
        panel.about: about,
        panel.set: gr.update(choices=names, value=name, visible=bool(names)),
        panel.card: "",
        panel.send: gr.update(visible=False),
        panel.exported: "",
    }


def _of_set(panel: Panel, name: str | None, config_json: str | None, workspace: Workspace) -> dict[Any, Any]:
    """The history of the data set `name`, and its versions in every list to choose from."""
    versions = history(workspace, name) if name else []
    source = config_of(config_json).source if config_json else None
    listed = version_views.choices(versions)
    ids = [value for _, value in listed]
    there = {version.id: version for version in versions}
    after = next(
        (version.id for version in versions if version.source == source and version.id in ids), next(iter(ids), None)
    )
    parent = there[after].parent if after else None
    return {
        panel.history: version_views.history_table(versions, source, version_views.runs_of(workspace)),
        panel.first: gr.update(visible=bool(config_json) and not versions),
        panel.before: gr.update(choices=listed, value=parent if parent in ids else after),
        panel.after: gr.update(choices=listed, value=after),
        panel.doomed: gr.update(choices=listed, value=None),
        panel.diff: "",
        panel.pager: gr.update(visible=False),
        panel.confirm: gr.update(visible=False),
    }


def _about(data: DataConfig, name: str | None, workspace: Workspace) -> Markup:
    """What this panel acts on: an open version, or the source itself."""
    if data.source.startswith(PREFIX):
        version = find(data.source, workspace)
        text = f"Open now: {version_title(version)}. Split, save and send act on it."
        newest = [other for other in history(workspace, version.name) if other.deleted is None][-1]
        if newest.number > version.number:
            text += f" The newest is version {newest.number}."
        return notice(text)
    if name:
        return notice(f"You are viewing the source itself, before any version of {name}. Press a version to open it.")
    return Markup("")


def _sources(context: DataContext, config_json: str | None) -> dict[Any, Any]:
    """The list of sources without a deleted version; the current data stay."""
    now = config_of(config_json).source if config_json else None
    return {context.source: gr.update(choices=source_choices(context.workspace, now))}


def _chosen(doomed: str | None, workspace: Workspace) -> Version:
    if not doomed:
        raise InputError("No version is chosen", try_="choose the one to delete")
    return find(doomed, workspace)


def _name(who: str | None) -> str | None:
    """The author of a version; without a name, the login name is recorded."""
    return " ".join((who or "").split())[:80] or None


def download(data: DataConfig, kind: str, workspace: Workspace) -> tuple[dict[str, Any], Markup]:
    """The update that offers the file (a zip for several splits), and its contents in words."""
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
    saved = ", ".join(f"{counted(rows, 'row')} of {Path(path).stem}" for path, rows in done.files.items())
    lines = [f"{count(rows)} left out: {reason}." for reason, rows in done.left_out.items()]
    lines += done.notes or []
    listed = list_items(lines)
    text = Markup('<div class="ft-box ft-good" role="status">Saved {}.{}</div>').format(
        saved, Markup("<ul>{}</ul>").format(listed) if lines else " Nothing was left out."
    )
    return offered, text


def hub_card(data: DataConfig, repository: str, private: bool, licence: str, *, workspace: Workspace) -> Markup:
    """What would go to the Hub: the files and the card. Sends nothing and uses no network."""
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
        + ("Only you can read it." if private else "Anyone can read it."),
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
    """Upload the data set. Returns its address."""
    from ftlab.data.export import push

    licence = (licence or "").strip()
    done = push(data, _named(repository), workspace, private=private, licence=licence or None, token=token)
    return str(done.address)


def _named(repository: str | None) -> str:
    name = (repository or "").strip()
    if not name:
        raise InputError("The data set needs a name on the Hub", allowed="owner/name")
    return name


def _file_name(data: DataConfig) -> str:
    """A safe name for the file: the version's id, or the source's name."""
    name = data.source.removeprefix(PREFIX) if data.source.startswith(PREFIX) else Path(data.source).stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:80] or "data"
