"""How a page of rows and one row are shown on the Data tab, with real sources and the starter's real tokenizer."""

from __future__ import annotations

import json
import math
import re

import pytest

pytest.importorskip("gradio")

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data.inspection import look
from ftlab.ui.tabs.data.row_view import page_count, page_table, row_card


@pytest.fixture
def workspace(tmp_path):
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture
def tickets(tmp_path):
    """23 rows with columns that no format knows; row 7 tries to be markup."""
    path = tmp_path / "tickets.jsonl"
    rows = [{"ticket": f"My lamp {i} is broken", "triage": f"lamps {i}"} for i in range(23)]
    rows[7]["ticket"] = "<img src=x onerror=alert(1)> lamp"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def card(source, workspace, row=0, max_length=None, **settings):
    return str(row_card(DataConfig(source=source, **settings), workspace, row, None, "starter", max_length))


def test_the_last_page_holds_the_rows_that_are_left(tickets, workspace):
    found = look(tickets, workspace)
    assert page_count(found, None) == 3
    last = str(page_table(found, 3, 21, None, ""))
    assert [f'data-pick="{row}"' in last for row in (19, 20, 21, 22)] == [False, True, True, True]
    assert "Rows 20 to 22 of 23 in the source (train), page 3 of 3" in last


def test_a_search_shows_the_rows_that_hold_the_text_with_their_own_numbers(tickets, workspace):
    found = look(tickets, workspace)
    hits = str(page_table(found, 1, 0, None, "LAMP 2"))
    assert [f'data-pick="{row}"' in hits for row in (2, 20, 21, 22, 3)] == [True, True, True, True, False]
    assert "1 to 4 of 4" in hits
    assert "No row of train contains “piano”" in str(page_table(found, 1, 0, None, "piano"))
    assert "No more rows" in str(page_table(found, 9, 0, None, "LAMP 2"))


def test_what_a_cell_holds_is_text_and_never_markup(tickets, workspace):
    shown = str(page_table(look(tickets, workspace), 1, 0, None, ""))
    one = card(tickets, workspace, 7, columns={"prompt": "ticket", "completion": "triage"})
    for html in (shown, one):
        assert "<img" not in html and "&lt;img" in html


def test_a_row_whose_columns_are_not_known_says_how_to_name_them(tickets, workspace):
    shown = card(tickets, workspace)
    assert "My lamp 0 is broken" in shown
    assert "No usable column" in shown and "prompt: ticket" in shown


def test_a_change_of_columns_template_or_system_prompt_is_seen_on_the_row(tickets, workspace):
    columns = {"prompt": "ticket", "completion": "triage"}
    plain = card(tickets, workspace, 3, columns=columns)
    assert "The stop token &lt;|end|&gt; is trained" in plain and "<mark>" in plain
    asked = card(tickets, workspace, 3, columns={"completion": "triage"}, prompt_template="Sort this: {ticket}")
    assert "Sort this: My lamp 3 is broken" in asked
    told = card(tickets, workspace, 3, columns=columns, system_prompt="You sort tickets.")
    assert "You sort tickets." in told
    wrong = card(tickets, workspace, 3, columns=columns, prompt_template="Sort {tickt}")
    assert "did you mean {ticket}?" in wrong and 'role="alert"' in wrong


def test_a_row_longer_than_max_length_says_that_it_would_be_left_out(tickets, workspace):
    columns = {"prompt": "ticket", "completion": "triage"}
    assert "would be left out" in card(tickets, workspace, columns=columns, max_length=5)
    assert "would be left out" not in card(tickets, workspace, columns=columns, max_length=512)


def test_the_marked_tokens_are_the_answer_and_its_stop_token(workspace):
    shown = card("support_triage", workspace)
    marked = shown.split("<mark>")[1].split("</mark>")[0]
    assert "queue" in marked and marked.endswith('<b class="ft-special">&lt;|end|&gt;</b>')
    assert shown.count("<mark>") == 1


def test_plain_text_is_shown_as_tokens_that_are_all_trained(workspace, tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(f"Chapter {n}. " + "The mill turns. " * 20 for n in range(12)))
    page = card(str(path), workspace, row=3, max_length=64)
    tokens = page.partition('id="data_tokens"')[2].partition("</pre>")[0]
    assert "Chapter 3. The mill turns." in tokens and "<mark>" in tokens and "<span>" not in tokens
    assert "All are trained" in page and "end-of-text token" in page
    tokens = int(re.search(r">(\d+) tokens of starter", page.replace('<span class="ft-help">', ">")).group(1))
    # The first piece holds 64 tokens, the others 63 new ones each.
    assert f"is learned in {1 + math.ceil((tokens - 64) / 63)} pieces" in page
