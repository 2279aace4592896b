"""The page that holds the tabs: what a tab provides, how tabs link to each other, and how they follow the files.

A tab is a module with `NAME` (its id), `TITLE`, and

    build(workspace) -> parts           draws it, within its gr.Tab
    wire(parts, page)                   connects its events
    doors(parts, page) -> {name: Door}  ways into it for buttons of other tabs (optional)
    followers(parts, page) -> [...]     what it redraws as the files change (optional)

The page loops over its tabs and knows none of their parts.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Protocol

import gradio as gr

from ftlab.core.damage import explained
from ftlab.core.files import DamagedFile, write_json
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, shorten
from ftlab.ui import job_strip, run_files
from ftlab.ui.kit.events import any_of, on, takes_event
from ftlab.ui.kit.fresh import digest, unsaid
from ftlab.ui.kit.html import error_box
from ftlab.ui.run_files import Job

log = logging.getLogger(__name__)
POLL_SECONDS = 1.0


class TabModule(Protocol):
    NAME: str
    TITLE: str

    def build(self, workspace: Workspace) -> Any: ...

    def wire(self, parts: Any, page: Page) -> None: ...


@dataclass(frozen=True)
class Door:
    """A way into a tab: `fill(value)` gives updates of `outputs`. If several tabs have a door of that name,
    `accepts(value)` tells which of them takes `value`. `js` then runs in the browser."""

    outputs: Sequence[Any]
    fill: Callable[[Any], dict[Any, Any]]
    accepts: Callable[[Any], bool] = lambda value: True
    js: str | None = None


@dataclass(frozen=True)
class Page:
    workspace: Workspace
    tabs: gr.Tabs
    strip: job_strip.Strip
    opened: Any  # the load event
    cover: gr.HTML  # see COVER
    panels: dict[str, gr.Tab]
    parts: dict[str, Any]
    doors: dict[str, dict[str, Door]] = field(default_factory=dict)  # by tab and name

    def to(self, tab: str) -> dict[Any, Any]:
        """The update that opens `tab`."""
        return {self.tabs: gr.Tabs(selected=tab)}

    def switch(self, trigger: Callable[..., Any], tab: str) -> None:
        """Make `trigger` open `tab`."""
        on(trigger, lambda: self.to(tab), [], [self.tabs], queue=False)

    def lead(
        self,
        trigger: Callable[..., Any],
        door: str,
        inputs: Sequence[Any] = (),
        value: Callable[..., Any] | None = None,
        *,
        to: str | None = None,
        **settings: Any,
    ) -> None:
        """Make `trigger` open the tab `to` through its `door`, with the result of `value` on `inputs` (default: the
        first input). If the first parameter of `value` is a gr.EventData, it receives the event too. Without `to`,
        opens the first tab with such a door that accepts the value. `settings` go to `on`."""
        ways = {tab: doors[door] for tab, doors in self.doors.items() if door in doors and to in (None, tab)}

        def go(*values: Any) -> dict[Any, Any]:
            carried = value(*values) if value else values[0]
            tab, way = next((tab, way) for tab, way in ways.items() if way.accepts(carried))
            return {**self.to(tab), **way.fill(carried)}

        def pick(event: gr.EventData, *values: Any) -> dict[Any, Any]:
            return go(event, *values)

        outputs = list(dict.fromkeys(component for way in ways.values() for component in way.outputs))
        handler = pick if value is not None and takes_event(value) else go
        taken = on(trigger, handler, inputs, [self.tabs, *outputs], **settings)
        for way in ways.values():
            if way.js:
                taken.then(None, js=way.js, api_visibility="private")


@dataclass(frozen=True)
class Choices:
    """The selections on the page, stored in the workspace. A reload, a second page and a restart restore them.

    Empty: the newest, or the default. Runs are ids. `preferences`: the Preferences tab's own data, see its `own_data`.
    """

    data: str = ""
    preferences: str = ""
    base: str = ""
    preset: str = ""
    evaluated: str = ""
    talked: str = ""
    opened: str = ""
    test: str = ""


def kept_choices(workspace: Workspace) -> Choices:
    """The stored choices; an unreadable file counts as none."""
    try:
        kept = json.loads(workspace.page_file.read_text(encoding="utf-8"))
        known = {known_field.name for known_field in fields(Choices)}
        return Choices(**{name: text for name, text in kept.items() if name in known and isinstance(text, str)})
    except (OSError, ValueError, AttributeError):
        return Choices()


_writing = threading.Lock()


def remember_choice(workspace: Workspace, **chosen: str) -> None:
    """Store choices, named as in `Choices`. An unwritable folder is no reason to refuse a choice."""
    with _writing:
        before = kept_choices(workspace)
        now = replace(before, **chosen)
        if now != before:
            try:
                write_json(workspace.page_file, asdict(now))
            except OSError as error:
                log.warning("What was chosen on the page is not kept: %s", error)


@dataclass
class Look:
    """A snapshot for one follower: the current job, the values on the page, and the follower's earlier `notes`
    (texts stored by the page)."""

    workspace: Workspace
    job: Job | None
    values: dict[Any, Any]
    notes: dict[str, str]

    def follow(self, component: Any, listed: Sequence[str]) -> str | None:
        """The selection in a list that grows at the front. A page on the newest entry moves to the new one; an older
        selection stays."""
        newest, note = next(iter(listed), None), f"newest {component._id}"
        chosen, before = self.values[component], self.notes.get(note)
        self.notes[note] = newest or ""
        return chosen if chosen in listed and chosen != before else newest


@dataclass(frozen=True)
class Follower:
    """A part of a tab that follows the files. `draw` gives updates of `outputs`.

    With `chosen`, it is redrawn when a run or one of these components changes, and its updates repeat no choice.
    Without, it is drawn every second, and sent if it differs. Errors while drawing appear in `box`. `remembers`: which
    of `Choices` a component of `inputs` is.
    """

    outputs: Sequence[Any]
    draw: Callable[[Look], dict[Any, Any]]
    inputs: Sequence[Any] = ()
    chosen: Sequence[Any] | None = None
    box: Any = None
    remembers: Mapping[str, Any] = field(default_factory=dict)


def follow_files(page: Page, followers: Sequence[Follower]) -> None:
    """Redraw `followers` when the page is opened and every second after, sending only what is new.

    One handler does all of it: gr.State.change, which could split it, never fires after an event with queue=False.
    """
    memory = gr.State({})
    workspace, strip = page.workspace, page.strip
    followers = [
        Follower([strip.box, strip.stop, strip.job], lambda seen: job_strip.now(strip, seen.job, workspace)),
        *followers,
    ]
    inputs = list(dict.fromkeys(component for follower in followers for component in follower.inputs))
    outputs = list(dict.fromkeys(component for follower in followers for component in follower.outputs))

    def tick(known: dict[str, str], *values: Any) -> dict[Any, Any]:
        return run_files.drawn(lambda: look(known, dict(zip(inputs, values, strict=True))))

    def look(known: dict[str, str], present: dict[Any, Any]) -> dict[Any, Any]:
        job, runs, now = run_files.current_job(workspace), run_files.fingerprint(workspace), dict(known)
        updates: dict[Any, Any] = {}
        kept = None if known else kept_choices(workspace)  # only the first look restores the stored choice
        for number, follower in enumerate(followers):
            mine = {name: text for name, text in known.items() if name.startswith(f"{number} ")}
            seen = Look(workspace, job, dict(present), {name.split(" ", 1)[1]: text for name, text in mine.items()})
            if kept is not None:
                seen.values |= {
                    component: getattr(kept, name) or present[component]
                    for name, component in follower.remembers.items()
                }
            updates |= _redrawn(follower, seen, runs, present)
            if kept is None:
                _keep(follower, seen)
            now |= {f"{number} {name}": text for name, text in seen.notes.items()}
        return updates | ({memory: now} if now != known else {}) | ({} if kept is None else {page.cover: ""})

    on(
        any_of(page.opened, gr.Timer(POLL_SECONDS).tick),
        tick,
        [memory, *inputs],
        [memory, page.cover, *outputs],
        queue=False,
        trigger_mode="once",
    )


def _redrawn(follower: Follower, seen: Look, runs: str, present: Mapping[Any, Any]) -> dict[Any, Any]:
    """The updates of `follower` that a page needs. Updates `seen.notes`."""
    if follower.chosen is None:
        drawn = _drawn(follower, seen)
        # Kept separately: it does not change with every figure.
        states = {component: update for component, update in drawn.items() if isinstance(component, gr.State)}
        fresh: dict[Any, Any] = {}
        for name, group in (("states", states), ("shown", {k: v for k, v in drawn.items() if k not in states})):
            if seen.notes.get(name) != (new := digest(list(group.values()))):
                seen.notes[name] = new
                fresh |= group
        return fresh
    if seen.notes.get("drawn") == digest([runs, [seen.values[component] for component in follower.chosen]]):
        return {}
    drawn = unsaid(_drawn(follower, seen), present)
    # A choice made while this was drawn is not part of it, so the next look draws again.
    after = [value_of(drawn.get(component), seen.values[component]) for component in follower.chosen]
    before, seen.notes["drawn"] = seen.notes.get("drawn"), digest([runs, after])
    return drawn if before != seen.notes["drawn"] else {}


def value_of(update: Any, otherwise: Any) -> Any:
    """The value that `update` gives a component; without one, its current value."""
    return update.get("value", otherwise) if isinstance(update, dict) else otherwise


def _drawn(follower: Follower, seen: Look) -> dict[Any, Any]:
    """What `follower` draws. A failure shows only in its own box."""
    try:
        return follower.draw(seen)
    except Exception as error:
        if isinstance(error, DamagedFile) and run_files.set_aside(error):
            raise  # it is drawn again without that file
        if not isinstance(error, FtlabError):
            log.warning("A part of the page cannot be drawn: %s: %s", type(error).__name__, shorten(error))
            error = explained(error) or FtlabError("This run cannot be shown", why=shorten(error))
        return {} if follower.box is None else {follower.box: error_box(error)}


def _keep(follower: Follower, seen: Look) -> None:
    """Store a choice that changed on this page. The newest of a list is stored as empty, so that it keeps following."""
    for name, component in follower.remembers.items():
        chosen, note = str(seen.values[component] or ""), f"said {name}"
        if seen.notes.get(note) != chosen:
            if note in seen.notes:
                newest = seen.notes.get(f"newest {component._id}")
                remember_choice(seen.workspace, **{name: "" if chosen == newest else chosen})
            seen.notes[note] = chosen
