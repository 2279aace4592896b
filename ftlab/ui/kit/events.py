"""Wire handlers: private, guarded, and with one place for messages."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import FormComponent

from ftlab.config import PROSE
from ftlab.core.damage import explained
from ftlab.core.files import DamagedFile, check_reach, disk_full, limited_to
from ftlab.core.workspace import default_root
from ftlab.errors import FtlabError
from ftlab.ui import run_files
from ftlab.ui.kit.html import error_box

log = logging.getLogger(__name__)
_END = object()
# Single-line boxes whose text goes to a model, to people or into a search: "/no_think" and "... and?" are not paths.
_PROSE = re.compile(
    r"chat_(text|system)|runs_name|[a-z_]+_search|data_(curate|versions)_(note|reason|why)|blind_instructions"
    r"|blind_(title|system)(_\d)?"
    rf"|(set|pref)_(data|evaluation|method)_({'|'.join(PROSE)})"
)


def message_box(elem_id: str) -> gr.HTML:
    """The place beside a button where its errors stay until the next press."""
    return gr.HTML("", elem_id=elem_id, elem_classes="ft-message")


def cover_page(markup: str) -> gr.HTML:
    """COVER or COVER_TAB, until a handler sets it to "". Takes no room on the page."""
    return gr.HTML(markup, elem_classes="ft-cover-box")


def on(
    trigger: Callable[..., Any],
    handler: Callable[..., Any],
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
    *,
    box: gr.HTML | None = None,
    progress: str = "hidden",
    clears: bool = True,
    lane: str | None = None,
    checks_itself: bool = False,
    **settings: Any,
) -> Any:
    """Wire `handler` to `trigger`. The handler returns (or yields) a dict {component: value} or None.

    An expected error goes into `box`. Any other error shows one plain sentence there and writes a traceback to the log.
    `clears` removes what an earlier press left in `box`; turn it off for handlers that run after another one.
    Events of one `lane` run one at a time, in order of arrival, so the later of two handlers determines what is shown.
    Without a lane, a handler waits only for itself, whichever of its triggers called it.
    `checks_itself`: the handler checks whether its one-line values name files that visitors may open (`reaching`).
    No endpoint is offered to programs: those are declared explicitly with `gr.api`.
    """
    settings.setdefault("api_visibility", "private")
    if lane is not None:
        settings |= {"concurrency_id": lane, "concurrency_limit": 1}
    # Each trigger gets its own function below; without a lane, Gradio would let them overtake each other.
    settings.setdefault("concurrency_id", f"{handler.__qualname__} {id(handler)}")
    if progress == "hidden":
        # The page notifies every output that ever had progress about every event, and searches the whole page for each.
        settings.setdefault("show_progress_on", [])
    targets = [*outputs, *([box] if box is not None and box not in outputs else [])]
    lines = [number for number, component in enumerate(inputs) if _is_line(component) and not checks_itself]
    call = guarded(handler, box, clears=clears, lines=lines)
    return trigger(
        call if targets or inspect.isgeneratorfunction(handler) else _without_answer(call),
        list(inputs),
        targets or None,
        show_progress=progress,
        **settings,
    )


def any_of(*triggers: Any) -> Callable[..., Any]:
    """Combine several triggers into one, so their events run one after another and the last choice wins.

    Wired separately, two quick choices would be two concurrent events, and the slower reply would win.
    """
    return functools.partial(gr.on, list(triggers))


def steps(turn: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Handlers for Previous and Next, made from one for a page; `by` is the number of pages to turn."""

    def backwards(*values: Any) -> Any:
        return turn(*values, by=-1)

    def forwards(*values: Any) -> Any:
        return turn(*values, by=+1)

    return backwards, forwards


def offer_file(path: Path, name: str) -> dict[str, Any]:
    """An update that lets a download button serve a copy of `path` called `name`.

    The copy lies in Gradio's own cache: the web server never serves the workspace itself.
    """
    folder = Path(tempfile.mkdtemp(dir=_cache()))
    copy = folder / name
    try:
        os.link(path, copy)
    except OSError:  # another file system
        shutil.copyfile(path, copy)
    return gr.update(value=str(copy))


def press(selector: str, unless: str) -> str:
    """Script that presses the button `selector`, unless the message box `unless` shows an error."""
    return (
        f"() => {{ if (!document.querySelector('{unless} .ft-bad')) "
        f"setTimeout(() => document.querySelector('{selector}')?.click(), 300); }}"
    )


_REVEAL = """() => {
  const end = performance.now() + 10000;
  const show = waits => {
    const parts = [...document.querySelectorAll('%s')];
    const part = parts.find(each => each.getClientRects().length);
    if (part) part.scrollIntoView({block: '%s', behavior: waits.length > 2 ? 'smooth' : 'instant'});
    else if (performance.now() < end) return setTimeout(show, 100, waits);
    if (waits.length) setTimeout(show, waits[0], waits.slice(1));
  };
  setTimeout(show, 100, [700, 1000, 1500]);
}"""


def reveal(selector: str, block: str = "nearest") -> str:
    """Script that scrolls to the first visible element matching `selector`, to the edge `block` of the screen: once it
    appears, and again while the page settles, which takes seconds on a busy machine."""
    return _REVEAL % (selector, block)


def _cache() -> Path:
    from gradio.utils import get_upload_folder

    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


_builds_for: ContextVar[tuple[Path, ...] | None] = ContextVar("ftlab_builds_for", default=None)


@contextlib.contextmanager
def reaching(folders: Sequence[Path] | None) -> Iterator[None]:
    """Within this context, visitors of what is wired can name only files below `folders`; None allows all files."""
    token = _builds_for.set(tuple(folders) if folders is not None else None)
    try:
        yield
    finally:
        _builds_for.reset(token)


def reach() -> tuple[Path, ...] | None:
    """The folders set by `reaching` for the page being built."""
    return _builds_for.get()


def _is_line(component: Any) -> bool:
    """Whether a person can type a path into it: a single line that is not meant as prose (`_PROSE`)."""
    if _PROSE.fullmatch(getattr(component, "elem_id", None) or ""):
        return False
    return isinstance(component, gr.Dropdown) or (isinstance(component, gr.Textbox) and component.lines == 1)


def guarded(
    handler: Callable[..., Any], box: gr.HTML | None, *, clears: bool = True, lines: Sequence[int] = ()
) -> Callable[..., Any]:
    """`handler` with its errors turned into messages. Keeps the signature, which Gradio reads for event data.

    If the page is built for visitors (`reaching`), no value may name a file elsewhere: neither the inputs `lines`
    nor anything that the handler derives from the others.

    Each message of a stream repeats what the stream has sent before (`_repeated`), so a handler sends things once.
    """

    folders = reach()
    lines = _places(handler, lines)

    def tidy(result: Any) -> dict[Any, Any]:
        result = dict(result or {})
        if box is not None and clears:
            result.setdefault(box, "")
        return result

    def failed(error: Exception) -> dict[Any, Any]:
        if isinstance(error, DamagedFile):
            run_files.set_aside(error)  # the next tick draws without it
        if not isinstance(error, FtlabError):
            error = disk_full(error, default_root()) or explained(error) or error
        if not isinstance(error, FtlabError):
            log.exception("A handler of the app failed: %s", handler.__name__)
            error = FtlabError(
                "Something went wrong inside ftlab",
                why=f"{type(error).__name__}: the details are in the terminal where the app runs.",
                try_="again. If it keeps failing, file an issue with the last lines of that terminal",
            )
        if box is None:
            log.warning("%s: %s", handler.__name__, error)
            return {}
        return {box: error_box(error)}

    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*args: Any, **kwargs: Any) -> Any:
            sent: dict[Any, Any] = {}
            try:
                with limited_to(folders):
                    check_reach([args[number] for number in lines])
                    results = handler(*args, **kwargs)
                while True:
                    # Entered anew for each step: Gradio may run each step in another thread.
                    with limited_to(folders):
                        result = next(results, _END)
                    if result is _END:
                        break
                    yield _repeated(sent, tidy(result)) or gr.skip()
            except Exception as error:
                yield _repeated(sent, failed(error)) or gr.skip()

        return stream

    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            with limited_to(folders):
                check_reach([args[number] for number in lines])
                return tidy(handler(*args, **kwargs)) or gr.skip()
        except Exception as error:
            return failed(error) or gr.skip()

    return call


def _without_answer(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` for an event without outputs. Gradio warns if such an event returns a value."""

    @functools.wraps(call)
    def silent(*args: Any, **kwargs: Any) -> None:
        call(*args, **kwargs)

    return silent


def _places(handler: Callable[..., Any], inputs: Sequence[int]) -> list[int]:
    """The positions of `inputs` (indexes among the inputs) among the arguments of `handler`. Gradio inserts event data
    and requests wherever an annotation names their type."""
    parameters = list(inspect.signature(handler).parameters.values())
    special = (*_EVENT_DATA, "Request", "Progress", "OAuthProfile", "OAuthToken")
    taken = {at for at, parameter in enumerate(parameters) if _is_of(parameter, special)}
    free = [at for at in range(len(parameters) + max(inputs, default=0) + 1) if at not in taken]
    return [free[number] for number in inputs]


_EVENT_DATA = ("EventData", "SelectData", "KeyUpData", "LikeData")


def takes_event(handler: Callable[..., Any]) -> bool:
    """Whether the first argument of `handler` is event data, judged by its annotation."""
    first = next(iter(inspect.signature(handler).parameters.values()), None)
    return first is not None and _is_of(first, _EVENT_DATA)


def _is_of(parameter: inspect.Parameter, types: tuple[str, ...]) -> bool:
    return str(parameter.annotation).removesuffix("'>").endswith(types)


def _repeated(sent: dict[Any, Any], message: dict[Any, Any]) -> dict[Any, Any]:
    """`message` merged over what its stream has sent before. Updates `sent`.

    If two messages of a stream arrive at once, the page may skip the first. Values of fields and states are not
    repeated: they may have changed since, and would be reset.
    """
    whole = {**sent, **message}
    for component, update in message.items():
        if _is_update(update) and _is_update(sent.get(component)):
            whole[component] = {**sent[component], **update}
        if not isinstance(component, (gr.State, FormComponent)):
            sent[component] = whole[component]
        elif _is_update(update):
            sent[component] = {name: value for name, value in whole[component].items() if name != "value"}
    # Gradio modifies the updates.
    return {component: dict(update) if _is_update(update) else update for component, update in whole.items()}


def _is_update(value: Any) -> bool:
    return isinstance(value, dict) and value.get("__type__") == "update"
