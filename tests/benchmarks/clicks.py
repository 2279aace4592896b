"""How soon the app answers in a real browser: the first usable page, and the commonest clicks.

    python -m tests.benchmarks.clicks WORKSPACE [--times 5] [--phone]

WORKSPACE holds a run that was evaluated; it is copied, with its run twice. Each round starts an app of its own and
opens a fresh browser. Of each click: until the first sign of life (the page changed at all), until the reply (what was
asked for is there), and the longest time for which the browser answered nothing. Medians over the rounds, in
milliseconds of this machine: compare two versions by turns on the same one. Kilobytes are what the browser received
before the page could be used, as the server compressed it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.browser.conftest import PHONE, WIDE, App
from tests.conftest import find_chromium

# In every page, before anything else: a clock that starts with the event of a person and ends when `reply` holds.
CLOCK = """
window.clock = {
  arm(kind, reply) {
    const said = window.clock.now = {start: null, sign: null, reply: null, frozen: 0};
    const holds = () => { try { return Boolean(reply()); } catch { return false; } };
    said.held = holds();
    const start = event => {
      said.start = event.timeStamp;
      new MutationObserver((_, seen) => {
        seen.disconnect();
        requestAnimationFrame(() => { said.sign = performance.now(); });
      }).observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
      const look = () => {
        if (holds()) said.reply = performance.now(); else requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    };
    addEventListener(kind, start, {capture: true, once: true});
  },
};
new PerformanceObserver(list => {
  const said = window.clock.now;
  if (!said || said.start === null) return;
  for (const one of list.getEntries()) said.frozen = Math.max(said.frozen, one.duration);
}).observe({entryTypes: ['longtask']});
window.seen = selector => [...document.querySelectorAll(selector)].find(
  one => one.checkVisibility({visibilityProperty: true, opacityProperty: true}) && one.getClientRects().length);
window.text = selector => document.querySelector(selector)?.innerText;
window.current = () => document.querySelector('#runs_table .ft-current .ft-pick')?.dataset.pick;
window.answers = () => text('#evaluate_answers');
window.words = () => text('#train_settings');
window.says = (selector, words) => { const one = seen(selector); return one && words.test(one.innerText); };
"""
USABLE = """() => ['#data_use', '#data_try'].some(one => seen(one) && !seen(one).disabled) && !seen('.ft-cover')"""
# What shows that a tab is filled.
FILLED = {
    "data": "says('#data_sentence', /to learn from/)",
    "train": "seen('#train_start') && !seen('#train_start').disabled && says('#train_data', /to learn from/)",
    "preferences": "seen('#pref_start') && says('#pref_data', /./) && !says('#pref_data', /Reading/)",
    "evaluate": "seen('#evaluate_result .ft-example')",
    "chat": "seen('#chat_log [data-act^=ask]')",
    "blind": "seen('#blind_make') && !seen('#blind_make').disabled && seen('#blind_who_2 input')"
    " && seen('#blind_who_2 input').value !== ''",
    "runs": "seen('#runs_table li') && says('#runs_detail', /./)",
}
ROWS = [("Where is my parcel?", "Sorry to hear that.", "Thank you."), ("The box was torn.", "That is bad.", "Hello.")]

ASK = "#chat_log [data-act^=ask]"


@dataclass(frozen=True)
class Click:
    name: str
    do: Callable[[Any], Any]
    reply: str  # script; must not hold before
    starts: str = "click"  # the event that starts the clock


def tab(name: str) -> Callable[[Any], Any]:
    return lambda page: page.locator(f"#tab_{name}-button").click()


def press(selector: str) -> Callable[[Any], Any]:
    return lambda page: page.locator(selector).first.click()


def clicks(file: Path) -> list[Click]:
    """The way of somebody who looks at everything once, then works."""
    first = [Click(f"first {name}", tab(name), reply) for name, reply in FILLED.items() if name != "data"]
    again = [Click(f"again {name}", tab(name), reply) for name, reply in FILLED.items()]

    def other_column(page: Any) -> None:
        page.locator("#data_pick_answer input").first.click()
        page.locator("#data_pick_answer [role=option]", has_text="Third").first.click()

    def upload(page: Any) -> None:
        page.locator("#data_upload input[type=file]").set_input_files(str(file))

    return [
        *first,
        *again,
        Click("open another run", press("#runs_table li:not(.ft-current) .ft-pick"), "was.run !== current()"),
        Click("compare two runs", lambda page: [one.check() for one in page.locator("#runs_table input").all()],
              "seen('#runs_detail [data-compare]')"),
        Click("open all answers", press("#evaluate_answers_box button"), "seen('#evaluate_answers table')"),
        Click("filter answers", press("#evaluate_filter label:nth-of-type(2)"), "was.rows !== answers()"),
        Click("open Advanced of Train", press("#train_more > button"), "seen('#set_optimisation_epochs input')"),
        Click("choose Thorough", press("#train_preset label:nth-of-type(3)"), "was.words !== words()"),
        Click("upload a CSV", upload, "says('#data_sentence', /First.* to .*Second/)", "change"),
        Click("open the column pickers", press("#data_change"), "seen('#data_pick_answer input')"),
        Click("pick another column", other_column, "says('#data_sentence', /Third/)", "mousedown"),
        Click("open rows of the data", press("#data_details"), "seen('#data_panels')"),
        Click("press a held-out prompt", press(ASK), "says('#chat_log [data-side=base] .ft-text', /./)"),
        Click("press it again", press(ASK), "says('#chat_log [data-side=base] .ft-text', /./)"),
    ]  # fmt: skip


# Where a click needs another tab to be open, or the page to be put back; no part of what is measured.
BEFORE: dict[str, Callable[[Any], Any]] = {
    "open another run": tab("runs"),
    "open all answers": tab("evaluate"),
    "open Advanced of Train": tab("train"),
    "upload a CSV": tab("data"),
    "press a held-out prompt": tab("chat"),
    "press it again": press("#chat_clear"),
}
# Kept before each click, to see that it has become another.
KEEP = "() => { window.was = {run: current(), rows: answers(), words: words()} }"


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--phone", action="store_true")
    args = parser.parse_args()
    rounds: list[dict[str, Any]] = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        for number in range(args.times):
            place = Path(folder) / str(number) / "workspace"
            _copy(args.workspace.resolve(), place)
            rounds.append(_round(playwright, place, PHONE if args.phone else WIDE))
    _tell(rounds)


def _copy(workspace: Path, place: Path) -> None:
    """A copy of `workspace` with its newest run a second time, as an older one."""
    shutil.copytree(workspace, place)
    newest = max((place / "runs").iterdir(), key=lambda one: one.name)
    shutil.copytree(newest, newest.with_name("20200101-000000-older-0000"))


def _round(playwright: Any, workspace: Path, size: dict[str, int]) -> dict[str, Any]:
    file = workspace.parent / "mine.csv"
    lines = [f'"{a} {n}","{b} {n}","{c} {n}"' for n in range(40) for a, b, c in ROWS]
    file.write_text("\n".join(["First text,Second text,Third text", *lines]) + "\n", encoding="utf-8")
    began = time.monotonic()
    app = App(workspace).start()
    figures: dict[str, Any] = {"the app answers after": 1000 * (time.monotonic() - began)}
    browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"])
    try:
        page = browser.new_page(viewport=size)
        page.set_default_timeout(120_000)
        page.add_init_script(CLOCK)
        figures |= _first_page(page, app.url)
        page.wait_for_timeout(3000)  # somebody reads; what is imported in the background may be done
        for click in clicks(file):
            if click.name in BEFORE:
                BEFORE[click.name](page)
                page.wait_for_timeout(1500)
            page.evaluate(KEEP)
            figures[click.name] = _measured(page, click)
            page.wait_for_timeout(600)
        figures["nodes, all tabs opened"] = page.evaluate("document.querySelectorAll('*').length")
    finally:
        browser.close()
        app.kill()
    return figures


def _first_page(page: Any, url: str) -> dict[str, float]:
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    received: list[float] = []
    network.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    page.goto(url, wait_until="commit")
    drawn = "() => seen('#tab_data-button') && performance.now()"
    tabs = page.wait_for_function(drawn, polling="raf").json_value()
    usable = page.wait_for_function(f"() => ({USABLE})() && performance.now()", polling="raf").json_value()
    requests, size = len(received), sum(received)
    nodes = page.evaluate("document.querySelectorAll('*').length")
    return {
        "the tabs are drawn after": tabs,
        "the first page can be used after": usable,
        "requests until then": requests,
        "kilobytes until then": size / 1000,
        "nodes of the first page": nodes,
    }


def _measured(page: Any, click: Click) -> tuple[float, float, float]:
    page.evaluate(f"clock.arm({click.starts!r}, () => {click.reply})")
    held = page.evaluate("clock.now.held")
    assert not held, f"{click.name}: the reply is there before the click"
    click.do(page)
    page.wait_for_function("() => clock.now.reply !== null")
    page.wait_for_timeout(50)
    now = page.evaluate("clock.now")
    return now["sign"] - now["start"], now["reply"] - now["start"], now["frozen"]


def _tell(rounds: list[dict[str, Any]]) -> None:
    load = os.getloadavg()[0]
    print(f"medians of {len(rounds)} rounds; load of the machine {load:.1f}")
    for name, value in rounds[0].items():
        if isinstance(value, tuple):
            sign, reply, frozen = (statistics.median(one[name][at] for one in rounds) for at in range(3))
            print(f"{name:28} sign {sign:6.0f}   reply {reply:6.0f}   frozen {frozen:6.0f}")
        else:
            print(f"{name:34} {statistics.median(one[name] for one in rounds):8.0f}")


if __name__ == "__main__":
    main()
