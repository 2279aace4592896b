"""The table, the picture and the page: what they say, and that data stays text."""

from __future__ import annotations

import json
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from ftlab.config import build_config
from ftlab.core.comparison import whole_form
from ftlab.core.files import append_jsonl, write_json, write_jsonl, write_text
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import FtlabError
from ftlab.report.charts import gain_loss_chart, gain_loss_lines
from ftlab.report.markdown import write_markdown
from ftlab.report.report import choose_examples, comparison_table, write_report
from tests.comparisons import a_measure, a_row, evaluated_run, three_sides
from tests.conftest import find_chromium, run_cli

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 7 * 7 }}</style>"


def side(**values):
    return {
        "perplexity": 24.31,
        "perplexity_interval": [20.0, 29.0],
        "bleu": 2.0,
        "bleu_interval": [1.0, 3.0],
        "bleu_signature": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0",
        "exact_match": 0.02,
        "exact_match_interval": [0.0055, 0.07],
        "general_accuracy": 0.975,
        "general_interval": [0.943, 0.989],
        "general_rows": 200,
        "rows": 100,
        "tokens": 2831,
        "truncated_answers": 0,
        "mean_answer_tokens": 29.0,
    } | values


def comparison(**values):
    """As an earlier version wrote it, without its measures, and as it is read."""
    written = {
        "run": "20261121-090000-triage-lora-aaaa",
        "created": 1795252159.0,
        "split": "test",
        "seconds": 27.4,
        "base": side(),
        "adapted": side(
            perplexity=1.04,
            perplexity_interval=[1.02, 1.07],
            bleu=97.2,
            bleu_interval=[95.8, 98.4],
            exact_match=0.86,
            exact_match_interval=[0.779, 0.915],
            general_accuracy=0.945,
            general_interval=[0.904, 0.969],
        ),
        "tests": {"exact_match": 1e-20, "perplexity": 0.0002, "bleu": 0.000999, "general_accuracy": 0.11},
        "verdict": {
            "text": "The adapted model is better: exact match 86% against 2% (p < .001, 100 rows).",
            "better": True,
            "p": 1e-20,
            "forgot": False,
        },
        "settings": {
            "decoding": "greedy",
            "max_new_tokens": 128,
            "probes": "general_probes",
            "exact_match_rule": "by value",
            "general_accuracy_rule": "case ignored",
            "tests": {"exact_match": "exact McNemar", "perplexity": "permutation", "bleu": "paired bootstrap"},
            "device": "cpu",
            "dtype": "float32",
            "quantised": False,
            "versions": {"torch": "2.13.0"},
        },
        "notes": [],
    }
    return whole_form(written | values)


def prediction(row, base_correct, adapted_correct, text="an answer", **values):
    return {
        "row": row,
        "prompt": f"question {row}: {text}",
        "messages": [],
        "reference": text,
        "base": text,
        "adapted": text,
        "base_correct": base_correct,
        "adapted_correct": adapted_correct,
        "base_loss": 2.0,
        "adapted_loss": 1.0,
    } | values


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path / "20261121-090000-triage-lora-aaaa")
    write_text(run.config_file, build_config({"name": "Support triage"}).resolved().to_yaml())
    write_json(run.status_file, {"trained_parameters": 221184, "total_parameters": 3104448})
    for step in range(3):
        append_jsonl(run.metrics_file, {"step": step, "epoch": step * 2.5, "time": 1000.0 + 40 * step, "loss": 1.0})
    write_json(run.comparison_file, comparison())
    write_jsonl(run.predictions_file, [prediction(i, i == 9, i % 7 != 2) for i in range(20)])
    write_jsonl(
        run.probes_file,
        [
            {"row": 0, "prompt": "Hot?", "reference": "cold", "base": "cold", "adapted": "", "base_correct": True}
            | {"adapted_correct": False}
        ],
    )
    return run


def before_after():
    side = {"words": 28.4, "tokens": 45.5, "cut_share": 0.0, "repetition": 0.158, "distinct_2": 0.2}
    against = {"wins": 10, "ties": 11, "losses": 19, "win_rate": 10 / 29, "interval": [0.199, 0.527]}
    against |= {"difference": 0.303, "difference_interval": [-0.168, 0.883]}
    judged = {"reward_model": ATTACK, "against": {"start": against, "base": against}, "proxy": "A proxy.", "notes": []}
    contestants = {"base": side | {"words": 5.9}, "start": side, "adapted": side}
    return {"rows": 40, "split": "test", "contestants": contestants, "win_rates": {"judge": judged}}


class Page(HTMLParser):
    """The tags and the visible text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self.attributes = [], [], []
        self._hidden = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self._hidden = tag == "style"

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())


def test_the_table_gives_each_measure_with_unit_change_and_help():
    rows = {row["measure"]: row for row in comparison_table(comparison())}
    exact = rows["Exact match"]
    assert (exact["base"], exact["adapted"], exact["change"]) == ("2%", "86%", "+84 points")
    assert exact["adapted_interval"] == "78–92%"
    assert exact["better"] is True
    perplexity = rows["Perplexity"]
    # 1.04 / 24.31 - 1 = -95.72%
    assert (perplexity["base"], perplexity["adapted"], perplexity["change"]) == ("24.3", "1.04", "−95.7%")
    assert perplexity["better"] is True
    assert rows["BLEU"]["change"] == "+95.2"
    assert all(row["unit"] and row["help"] for row in rows.values())


def test_a_fall_within_chance_is_neither_better_nor_worse():
    general = comparison_table(comparison())[-1]
    assert general["measure"] == "General accuracy"
    assert (general["base"], general["adapted"], general["change"]) == ("97.5%", "94.5%", "−3 points")
    assert general["better"] is None


def test_a_certain_fall_of_general_accuracy_is_worse():
    tests = comparison()["tests"] | {"general_accuracy": 0.001}
    assert comparison_table(comparison(tests=tests))[-1]["better"] is False


def test_without_general_questions_there_is_no_such_row_and_no_bar():
    bare = comparison(
        base=side(general_accuracy=None, general_interval=None, general_rows=0),
        adapted=side(general_accuracy=None, general_interval=None, general_rows=0),
    )
    assert "General accuracy" not in [row["measure"] for row in comparison_table(bare)]
    assert "General" not in gain_loss_chart(bare)


def test_no_change_has_no_sign():
    same = comparison(adapted=side())
    assert [row["change"] for row in comparison_table(same)] == ["0 points", "0%", "0.0", "0 points"]
    assert {row["better"] for row in comparison_table(same)} == {None}


def test_cut_answers_get_a_row():
    row = comparison_table(comparison(base=side(truncated_answers=79)))[-1]
    assert (row["measure"], row["base"], row["adapted"], row["change"]) == ("Answers cut", "79", "0", "−79")


def test_each_dot_lies_as_far_from_the_middle_as_the_measure_moved_towards_better():
    picture = ElementTree.fromstring(gain_loss_chart(comparison()))
    dots = [float(dot.get("cx")) for dot in picture.iter("circle") if dot.get("stroke-width")]
    middle, half = (8 + 372) / 2, (372 - 8) / 2
    # Points of exact match and BLEU, percent of the base's perplexity; general accuracy fell by 3 points.
    gains = [84, 100 * (1 - 1.04 / 24.31), 95.2, -3]
    assert dots == pytest.approx([middle + half * gain / 100 for gain in gains], abs=0.06)
    assert "Exact match: +84 points (p < .001)" in picture.get("aria-label")


def test_a_change_within_chance_is_a_hollow_dot_and_what_is_off_the_axis_an_arrow():
    lines = {line.name: line for line in gain_loss_lines(three_sides())}
    assert (lines["exact_match"].better, lines["general_accuracy"].better, lines["bleu"].better) == (True, False, None)
    assert lines["exact_match"].interval == pytest.approx((50, 85))
    assert "answer_words" not in lines
    dots = [dot.get("fill") for dot in ElementTree.fromstring(gain_loss_chart(three_sides())).iter("circle")]
    # Exact match, accuracy, perplexity, then BLEU: the page shows through, and the ring is not filled.
    assert dots[3:5] == ["var(--card, var(--block-background-fill, #fff))", "none"]
    worse = three_sides(measures=[a_measure("perplexity", "Perplexity", [2.0, 2.0, 9.0], better="lower", kind="loss")])
    assert "<circle" not in gain_loss_chart(worse) and "l-6 5" in gain_loss_chart(worse)


def test_the_page_answers_what_a_stakeholder_asks(run):
    page = Page(write_report(run).read_text(encoding="utf-8"))
    for part in (
        "The adapted model is better: exact match 86% against 2% (p < .001, 100 rows).",
        "Better than its base",
        "starter (the toy that ships with ftlab)",
        "LoRA, rank 16, 221,184 of 3,104,448 weights (7.1%)",
        "5 passes over the data, learning rate 0.004, 1 min 20 s",
        "97.5% of 200 general questions right before, 94.5% after (p = .11)",
        "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0",
        "The starter is a toy",
        "torch 2.13.0",
    ):
        assert part in page.text, part


def test_the_page_is_one_file_without_scripts_that_asks_nobody(run):
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(page.tags)
    assert not {"src", "href"} & set(page.attributes)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", html)
    assert "default-src 'none'" in html


def test_data_and_answers_are_text_and_never_markup(run):
    values = {"messages": [], "reference": ATTACK, "base": ATTACK, "adapted": ATTACK, "prompt": ATTACK}
    write_jsonl(run.predictions_file, [prediction(i, False, i < 3) | values for i in range(5)])
    write_jsonl(run.probes_file, [{"row": 0, "base_correct": True, "adapted_correct": False} | values])
    config = build_config({"name": ATTACK[:80], "model": {"base": ATTACK}, "data": {"source": ATTACK}}).resolved()
    write_text(run.config_file, config.to_yaml())
    hostile = comparison(notes=[ATTACK])
    hostile["settings"]["probes"] = ATTACK
    hostile["verdict"]["text"] = ATTACK
    write_json(run.comparison_file, hostile)
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert not {"script", "img"} & set(page.tags)
    assert "onerror" not in page.attributes
    assert page.tags.count("style") == 1
    assert page.text.count("{{ 7 * 7 }}") >= 15


def test_the_page_says_where_it_is_worse_what_else_was_checked_and_what_it_took(workspace):
    rows = [a_row(row, row < 10, row >= 10, columns={"channel": "mail" if row < 10 else "phone"}) for row in range(20)]
    run = evaluated_run(workspace, seconds_before=44.0)
    write_jsonl(run.predictions_file, rows)
    page = Page(write_report(run, price_per_hour=2.0).read_text())
    for part in (
        "By exact match, 10 of 20 rows got worse and 10 got better.",
        "Of 2 slices by channel, 1 got worse by more than chance explains.",
        "Where channel is mail (10 rows), exact match got worse: 0% against 100%.",
        "Against a prompt The adapted model is better than the prompted base",
        "The adapted model lost 9 of 45 general questions.",
        # 59 minutes of training, one for the comparison, and the base that was asked before.
        "1 machine hours, 1 min 00 s of them for this comparison and 44 s for asking the base beforehand; 2.02 at 2",
        "The comparison took 1 min 00 s, after 44 s of asking the base beforehand, on CPU",
        "Base, prompted",
        "Exact match: the rule of Exact match.",
    ):
        assert part in page.text, part


def test_the_markdown_says_the_same_and_data_stay_text(workspace):
    run = evaluated_run(workspace)
    write_jsonl(run.predictions_file, [a_row(0, False, True, prompt=f"{ATTACK}\n# not a heading | nor a cell")])
    text = write_markdown(run).read_text()
    assert text.splitlines()[0].startswith("# The adapted model is better: exact match 80% against 10%")
    assert "| Exact match (% of rows) | 10% \\[10–10%\\] | 30% \\[30–30%\\] (+20 points, p \\< .001) |" in text
    assert "\n# not" not in text and not re.search(r"(?<!\\)<script", text) and "\\| nor a cell" in text
    assert "Gained exact match; lost general accuracy." in text


def test_the_command_line_writes_the_report_where_it_is_wanted(workspace, tmp_path):
    run = evaluated_run(workspace)
    target = tmp_path / "out" / "report.md"
    done = run_cli("report", run.id, "--markdown", "--to", str(target), "--workspace", str(workspace.root), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["report"] == str(target)
    assert target.read_text() == run.report_markdown_file.read_text()
    refused = run_cli("report", run.id, "--price", "-1", "--workspace", str(workspace.root))
    assert refused.returncode == 2 and "price per hour is negative" in refused.stderr


def test_the_report_of_a_preference_run_says_how_its_answers_changed(run):
    assert "Before and after" not in Page(write_report(run).read_text()).text
    write_json(run.before_after_file, before_after())
    page = Page(write_report(run).read_text())
    assert "the base 5.9 0% 15.8% its start 28.4 0% 15.8% this run" in page.text
    assert "Against its start: this run wins 34.5% of 29 prompts" in page.text and "A proxy." in page.text
    assert "script" not in page.tags and "img" not in page.tags


def test_where_the_trainer_keeps_files_is_not_told(run):
    config = build_config({"data": {"source": "/home/anna/secret-client/tickets.jsonl"}}).resolved()
    write_text(run.config_file, config.to_yaml())
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "tickets.jsonl" in page.text
    assert "secret-client" not in page.text


def test_a_run_that_was_not_evaluated_has_no_report(run):
    run.comparison_file.unlink()
    with pytest.raises(FtlabError, match="has not been evaluated"):
        write_report(run)


def test_examples_are_a_mix_chosen_by_order_and_counted():
    rows = [prediction(i, False, True) for i in range(10)]
    rows += [prediction(10, True, False), prediction(11, False, False), prediction(12, True, True)]
    chosen, rule = choose_examples(rows)
    assert [(row["row"], row["kind"]) for row in chosen] == [
        (0, "improved"),
        (1, "improved"),
        (10, "got worse"),
        (11, "wrong on both sides"),
        (12, "right on both sides"),
    ]
    assert "10 improved, 1 got worse, 1 wrong on both sides, 1 right on both sides" in rule


def test_examples_fill_up_when_a_kind_is_missing():
    chosen, _ = choose_examples([prediction(i, False, True) for i in range(10)])
    assert [row["row"] for row in chosen] == [0, 1, 2, 3, 4]
    assert choose_examples([])[0] == []


def test_examples_of_free_text_run_from_the_greatest_gain_to_the_greatest_loss():
    rows = [prediction(i, False, False, base_loss=2.0, adapted_loss=1 + i * 0.2) for i in range(9)]
    chosen, _ = choose_examples(rows[::-1])
    assert [row["row"] for row in chosen] == [0, 2, 4, 6, 8]
    assert chosen[0]["kind"] == "improved: loss 2.00 to 1.00"
    assert chosen[-1]["kind"] == "got worse: loss 2.00 to 2.60"


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["examples", "preferences", "many measures"])
def test_a_full_page_prints_on_one_sheet_of_a4(run, tmp_path, kind):
    if kind == "preferences":
        write_json(run.before_after_file, before_after())
    long = "A long question about the order, the parcel and the invoice that goes on and on. " * 8
    write_jsonl(run.predictions_file, [prediction(i, i == 9, i % 7 != 2, text=long) for i in range(20)])
    full = comparison(notes=["A note about the result that fills one line and a little more of the page. " * 2] * 2)
    full["base"]["truncated_answers"] = 79
    if kind == "many measures":
        more = [a_measure(f"m{n}", f"A measure called {n}", [0.1, 0.2, 0.3]) for n in range(12)]
        full = three_sides(notes=full["notes"], measures=[*more, *three_sides()["measures"]])
        full["memorisation"]["text"] = full["forgetting"]["text"] = "A sentence on what was looked at and found. " * 6
    full["verdict"]["text"] = (
        "The adapted model is better: perplexity of the reference answers 5.14 against 19.4 (p < .001, 100 rows), "
        "BLEU 92.0 against 2.2 (p < .001); what the base knew: lost, general accuracy 66.5% against 97.5%."
    )
    write_json(run.comparison_file, full)
    pdf = tmp_path / "report.pdf"
    command = [find_chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={pdf}", write_report(run).as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    pages = re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())
    assert len(pages) == 1
