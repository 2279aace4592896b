"""What the owner of a blind test is shown, and which prompts a test takes."""

from __future__ import annotations

import json
from collections import Counter

import pytest

pytest.importorskip("gradio")

from ftlab.arena import blind_tests, prompt_sources, trials
from ftlab.arena.store import open_store
from ftlab.errors import InputError
from ftlab.ui.tabs.blind_test import picture as blind_test_picture
from ftlab.ui.tabs.blind_test import tab as blind_test
from tests.arena import opened


def test_nothing_tells_who_leads_until_the_owner_opens_the_tally_and_then_it_says_so(workspace):
    store = open_store(workspace)
    test_id, (ana, _) = opened(store, prompts=4)
    trials.vote(store, ana, trials.next_trial(store, ana).id, "left")
    before = blind_test_picture.picture(test_id, workspace)
    assert before["verdict"] == "" and before["can"]["early"] and not before["can"]["report"]
    assert "1 of 4 planned votes" in before["progress"] and "hidden" in before["progress"]
    with pytest.raises(InputError, match="hidden"):
        blind_test.lesson(store, test_id, workspace)

    assert "3 of the planned votes are missing" in blind_test_picture.warning("early", test_id, workspace)
    blind_tests.open_early(store, test_id)
    after = blind_test_picture.picture(test_id, workspace)
    assert "opened early" in after["verdict"].lower() and not after["can"]["early"]


def test_prompts_come_from_the_held_out_split_and_a_sample_takes_equally_many_of_each_topic(workspace, tmp_path):
    assert len(prompt_sources.held_out("brand_voice", workspace)) == 60
    file = tmp_path / "asked.jsonl"
    rows = [
        {"prompt": f"Question {n}?", "completion": "Yes.", "kind": "rare" if n < 3 else "common"} for n in range(30)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = prompt_sources.from_file(file, topic="kind")
    some = prompt_sources.sample(found, 6, by_topic=True)
    assert Counter(prompt.topic for prompt in some) == {"rare": 3, "common": 3}
    assert some[0].messages == [{"role": "user", "content": "Question 0?"}] and some[0].reference == "Yes."
    with pytest.raises(InputError, match="no such column"):
        prompt_sources.from_file(file, topic="place")
