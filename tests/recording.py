"""The README's pictures, from a real run in a real browser: from a CSV to a blind test, as a recording with captions.

    python -m tests.recording [--base smollm2] [--into .github] [--of WORKSPACE]

Writes `recording.webp` (about a minute, under 2 MB) and `evaluate.png` of the same run. Nothing is staged: the file
holds the rows of the sample as a table, the model is trained, asked and compared while the recording is made, and only
the time is shortened. Takes as long as the run itself: some minutes on two cores with the starter. With `--of`, the run
was trained before: the recording shows its data and its end, and goes on from there, in a copy of the workspace.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import expect, sync_playwright

from ftlab.models.bases import known as kept
from tests.browser.conftest import PHONE, App, uncovered
from tests.conftest import ROOT, find_chromium

SIZE = {"width": 1040, "height": 680}
PICTURE = {"width": 1280, "height": 900}
BAND, MARGIN = 52, 22  # pixels of the caption below the page
INK, PAGE, ACCENT = "#f8fafc", "#0f172a", "#f59e0b"
MOST_BYTES = 2_000_000
LONG = 1_800_000  # milliseconds: a training on a busy machine
PATIENCE = 300_000  # for everything else: what takes longer will not come
TRAINING_FRAMES = 7
CHECKED = re.compile("to look at|note|Nothing")


class Recording:
    """Frames of `page` with a caption, and how long each is shown (milliseconds)."""

    def __init__(self, page: Any) -> None:
        self.page, self.caption = page, ""
        self.frames: list[Image.Image] = []
        self.times: list[int] = []

    def shot(self, seconds: float, ring: tuple[float, float] | None = None) -> None:
        with Image.open(io.BytesIO(self.page.screenshot())) as seen:
            page = seen.convert("RGB")
        frame = Image.new("RGB", (SIZE["width"], SIZE["height"] + BAND), PAGE)
        page.thumbnail((SIZE["width"], SIZE["height"]))
        frame.paste(page, ((SIZE["width"] - page.width) // 2, 0))
        draw = ImageDraw.Draw(frame)
        draw.text((MARGIN, SIZE["height"] + 13), self.caption, INK, ImageFont.load_default(22))
        if ring is not None:
            x, y = ring
            draw.ellipse((x - 17, y - 17, x + 17, y + 17), outline=ACCENT, width=4)
        self.frames.append(frame)
        self.times.append(round(1000 * seconds))

    def say(self, caption: str, seconds: float) -> None:
        self.caption = caption
        self.shot(seconds)

    def press(self, selector: str) -> None:
        """Show where the press goes, then press."""
        target = self.page.locator(selector).first
        target.scroll_into_view_if_needed()
        box = target.bounding_box()
        self.shot(0.8, (box["x"] + min(box["width"] / 2, 90), box["y"] + box["height"] / 2))
        target.click()

    def save(self, file: Path) -> None:
        """As an animated WebP, as good as fits."""
        first, *others = self.frames
        for quality in (72, 60, 48, 36):
            first.save(
                file, save_all=True, append_images=others, duration=self.times, loop=0, quality=quality, method=6
            )
            if file.stat().st_size < MOST_BYTES:
                break
        seconds = sum(self.times) / 1000
        print(f"{file}: {len(self.frames)} frames, {seconds:.0f} s, {file.stat().st_size / 1e6:.2f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="starter", choices=("starter", "smollm2"))
    parser.add_argument("--into", type=Path, default=ROOT / ".github")
    parser.add_argument("--of", type=Path, help="a workspace with a finished run of the quickstart")
    parser.add_argument("--frames", type=Path, help="a folder for the single frames")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        place = Path(folder)
        if args.of:
            shutil.copytree(args.of, place / "workspace")
        # Tests never see the bases of this machine, but a recording of one needs them.
        app = App(place / "workspace", FTLAB_BASES=str(kept.home())).start()
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"])
        try:
            page = browser.new_page(viewport=SIZE, color_scheme="light", reduced_motion="reduce")
            page.set_default_timeout(PATIENCE)
            expect.set_options(timeout=PATIENCE)
            page.goto(app.url)
            uncovered(page)
            recording = Recording(page)
            if args.of:
                trained(recording)
            else:
                learn(recording, table(place / "tickets.csv"), args.base)
            show(recording, browser)
            recording.save(args.into / "recording.webp")
            if args.frames:
                args.frames.mkdir(parents=True, exist_ok=True)
                for number, frame in enumerate(recording.frames):
                    frame.save(args.frames / f"{number:02}.png")
            page.set_viewport_size(PICTURE)
            page.locator("#tab_evaluate-button").click()
            page.wait_for_timeout(2000)
            page.screenshot(path=args.into / "evaluate.png")
        except (PlaywrightError, AssertionError):
            page.screenshot(path=args.into / "stuck.png")
            print(f"It waits for something that does not come: {args.into / 'stuck.png'} shows where.", flush=True)
            raise
        finally:
            browser.close()
            app.kill()


def table(file: Path) -> Path:
    """The sample's rows as somebody keeps them: a table with headers of its own."""
    rows = (ROOT / "ftlab/samples/support_triage/train.jsonl").read_text(encoding="utf-8").splitlines()
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["Ticket No", "Customer writes", "Routing"])
        for number, row in enumerate(map(json.loads, rows), 1001):
            writer.writerow([number, row["prompt"], row["completion"]])
    return file


def trained(recording: Recording) -> None:
    """The data and the end of a run that was trained before."""
    page = recording.page
    expect(page.locator("#data_checks_line")).to_contain_text(CHECKED)
    page.wait_for_timeout(500)
    recording.say("1  Bring a table of what people ask and what the answer should be", 4)
    recording.press("#data_use")
    expect(page.locator("#train_to_evaluate")).to_be_visible()
    expect(page.locator("#preflight_result")).to_contain_text(re.compile("memory", re.I))
    recording.say("2  Quick, balanced or thorough: time and memory are measured before", 4)
    page.locator("#train_live summary").first.click()
    page.wait_for_timeout(500)
    recording.say("3  It trains in a process of its own: the curve, and answers as it learns", 4)
    page.locator("#train_live .ft-nows").scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    recording.say("3  Three held-out rows, before and after", 4)
    page.locator("#train_live summary").first.click()
    page.mouse.wheel(0, -4000)
    page.wait_for_timeout(500)


def learn(recording: Recording, file: Path, base: str) -> None:
    """From a file to a trained model."""
    page, say, press = recording.page, recording.say, recording.press

    expect(page.locator("#data_try")).to_be_visible()
    page.wait_for_timeout(1500)
    say("1  Bring a table of what people ask and what the answer should be", 3)
    page.locator("#data_upload input[type=file]").set_input_files(str(file))
    expect(page.locator("#data_sentence")).to_contain_text("to learn from")
    expect(page.locator("#data_checks_line")).to_contain_text(CHECKED)
    page.wait_for_timeout(500)
    say("1  Columns are recognized, rows are held back, findings come with remedies", 4)
    press("#data_use")

    expect(page.locator("#train_start")).to_be_enabled()
    if base != "starter":
        box = page.locator("#set_model_base input").first
        box.fill(base)
        box.press("Enter")
    expect(page.locator("#preflight_result")).to_contain_text(re.compile("memory", re.I))
    page.wait_for_timeout(500)
    say("2  Quick, balanced or thorough: time and memory are measured before", 4)
    press("#train_start")
    train(recording)


def show(recording: Recording, browser: Any) -> None:
    """What becomes of a trained model: the verdict, answers, votes, the list of runs."""
    page, say, press = recording.page, recording.say, recording.press
    press("#train_to_evaluate")
    expect(page.locator("#evaluate_result .ft-example").first).to_be_visible()
    page.wait_for_timeout(600)
    say("4  The verdict, on rows that neither model has seen", 5)
    page.mouse.wheel(0, 420)
    page.wait_for_timeout(600)
    say("4  What gained most and what got worse, side by side", 4)
    page.mouse.wheel(0, -2000)
    page.wait_for_timeout(300)

    press("#tab_chat-button")
    page.locator("#chat_log [data-act^=ask]").first.wait_for()
    say("5  Ask both models: a held-out prompt, or your own", 2.5)
    press("#chat_log [data-act^=ask]")
    expect(page.locator("#chat_send")).to_be_visible()
    page.locator("#chat_log .ft-acts").first.wait_for()
    page.wait_for_timeout(400)
    say("5  Say which answer is better: that becomes data, too", 4)

    press("#tab_blind-button")
    expect(page.locator("#blind_make")).to_be_enabled()
    page.locator("#blind_number").locator("input, textarea").first.fill("12")
    page.wait_for_timeout(1500)
    say("6  Let people judge without knowing whose answer it is", 3)
    press("#blind_make")
    press("#blind_places [data-pick=machine]")
    link = page.locator("#blind_share .ft-link")
    expect(link).to_contain_text("#key=")
    expect(page.locator("#blind_about")).to_contain_text("Open for votes")
    page.wait_for_timeout(1500)  # the strip leaves
    say("6  One press makes the answers and the link", 4)
    vote(recording, link.inner_text().strip(), browser)

    press("#tab_runs-button")
    page.locator("#runs_table li").first.wait_for()
    page.wait_for_timeout(800)
    say("7  Every run is kept: open it, compare it, hand the model over", 4)


def train(recording: Recording) -> None:
    """Frames while it trains, spread over the run."""
    page = recording.page
    live = page.locator("#train_live")
    expect(live).to_contain_text("Step", timeout=LONG)
    recording.say("3  It trains in a process of its own: close the page if you like", 2)
    expect(live).to_contain_text(re.compile("of [\\d,]+ updates"), timeout=LONG)
    recording.caption = "3  Three held-out rows show what it answers as it learns"
    shown = -1
    while page.locator("#train_to_evaluate").is_hidden():
        found = re.search(r"([\d,]+) of ([\d,]+) updates", live.inner_text())
        part = (
            int(TRAINING_FRAMES * int(found[1].replace(",", "")) / int(found[2].replace(",", ""))) if found else shown
        )
        if part > shown:
            shown = part
            recording.shot(1.2)
        time.sleep(0.5)
    page.wait_for_timeout(1500)
    recording.say("3  Then base and adapted model answer the same unseen rows", 3.5)


def vote(recording: Recording, url: str, browser: Any) -> None:
    """What a rater sees on a phone."""
    owner = recording.page
    recording.page = rater = browser.new_page(viewport=PHONE, color_scheme="light", reduced_motion="reduce")
    rater.set_default_timeout(PATIENCE)
    rater.goto(url)
    rater.get_by_label("Your name").fill("Ada")
    recording.say("6  What a rater sees on a phone: what this is, and how long it takes", 2.5)
    rater.get_by_role("button", name="Begin").click()
    rater.locator('[data-do="vote"][data-choice="left"]').wait_for()
    rater.wait_for_timeout(500)
    recording.say("6  A or B: nobody learns whose answer it is", 3.5)
    rater.locator('[data-do="vote"][data-choice="right"]').click()
    rater.wait_for_timeout(1500)
    recording.shot(1.5)
    rater.close()
    recording.page = owner


if __name__ == "__main__":
    main()
