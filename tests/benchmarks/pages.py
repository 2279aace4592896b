"""First view of each tab in a real browser: controls, words, height, and whether its primary button is above the fold.

    python -m tests.benchmarks.pages WORKSPACE [--shots FOLDER] [--tab data --tab train]

Counts what is visible without opening anything: folded parts, tables, and what comes from data, models or answers
(elements with the class `ft-content`, and what is inside) do not count. A group of radio buttons or checkboxes is one
control. Figures are of this machine's Chromium; heights in CSS pixels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tests.browser.conftest import PHONE, WIDE, App, uncovered
from tests.conftest import find_chromium

TABS = ("data", "train", "preferences", "evaluate", "chat", "blind", "runs")
FIGURES = """name => {
  const panel = document.querySelector('#tab_' + name);
  const skipped = 'table, .ft-content, .ft-rows';
  const seen = {visibilityProperty: true, opacityProperty: true};
  const visible = e => e.checkVisibility(seen) && e.getClientRects().length > 0;
  const controls = new Set();
  for (const e of panel.querySelectorAll('button, input, select, textarea, a[href], summary')) {
    if (!visible(e) || e.closest(skipped) || e.disabled && e.tagName !== 'BUTTON') continue;
    const group = e.matches('input[type=radio], input[type=checkbox]') ? e.closest('fieldset, .block') : null;
    const block = e.matches('input') && !e.matches('[type=radio], [type=checkbox]') ? e.closest('.block') : null;
    controls.add(group || block || e);
  }
  const walker = document.createTreeWalker(panel, NodeFilter.SHOW_TEXT);
  let words = 0;
  for (let node; (node = walker.nextNode());) {
    const e = node.parentElement;
    if (!e || e.closest(skipped + ', script, style, option, svg') || !visible(e)) continue;
    words += (node.textContent.match(/[\\p{L}\\p{N}][^\\s]*/gu) || []).length;
  }
  const primary = [...panel.querySelectorAll('button.primary')].filter(visible).map(e => {
    const box = e.getBoundingClientRect();
    return {text: e.innerText.trim(), bottom: Math.round(box.bottom + window.scrollY), off: e.disabled};
  });
  return {controls: controls.size, words, height: document.documentElement.scrollHeight, primary,
          wide: document.documentElement.scrollWidth > window.innerWidth,
          nodes: document.querySelectorAll('*').length};
}"""


def measure(page: Any, tab: str) -> dict[str, Any]:
    """The figures of one tab of an opened page, after it has settled."""
    page.locator(f"#tab_{tab}-button").click()
    page.locator(f"#tab_{tab}").wait_for()
    # Until nothing has been drawn for a moment: a tab is filled once it is opened.
    page.wait_for_timeout(600)
    before, now = "", page.locator(f"#tab_{tab}").inner_text()
    while now != before:
        page.wait_for_timeout(900)
        before, now = now, page.locator(f"#tab_{tab}").inner_text()
    return dict(page.evaluate(FIGURES, tab))


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--shots", type=Path, help="a folder for screenshots")
    parser.add_argument("--tab", action="append", choices=TABS)
    parser.add_argument("--dark", action="store_true")
    args = parser.parse_args()
    app = App(args.workspace.resolve()).start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
            for size in (WIDE, PHONE):
                page = browser.new_page(viewport=size, color_scheme="dark" if args.dark else "light")
                page.set_default_timeout(60_000)
                page.goto(app.url)
                uncovered(page)
                for tab in args.tab or TABS:
                    figures = measure(page, tab)
                    seen = [
                        f"{one['text']} at {one['bottom']}{' (off)' * one['off']}" for one in figures.pop("primary")
                    ]
                    print(f"{size['width']:5} {tab:12} {json.dumps(figures)} primary: {'; '.join(seen) or 'none'}")
                    if args.shots:
                        args.shots.mkdir(parents=True, exist_ok=True)
                        page.screenshot(path=args.shots / f"{tab}-{size['width']}.png")
                        page.screenshot(path=args.shots / f"{tab}-{size['width']}-whole.png", full_page=True)
            browser.close()
    finally:
        app.kill()


if __name__ == "__main__":
    main()
