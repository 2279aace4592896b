"""What the owner of a blind test is shown, and which prompts a test takes."""

from __future__ import annotations

import json
from collections import Counter

import pytest

pytest.importorskip("gradio")

from ftlab.arena import blind_tests, links, prompt_sources, trials
from ftlab.arena.answers import open_unless_flagged
from ftlab.arena.store import open_store
from ftlab.config import build_config
from ftlab.core.files import read_json, write_text
from ftlab.core.jobs import write_status
from ftlab.errors import FtlabError, InputError
from ftlab.training.status import RunStatus
from ftlab.ui.rater import serving
from ftlab.ui.tabs.blind_test import form, plan
from ftlab.ui.tabs.blind_test import picture as blind_test_picture
from ftlab.ui.tabs.preferences import lessons
from tests.arena import answered, opened


def test_nothing_tells_who_leads_until_the_owner_opens_the_tally_and_then_it_says_so(workspace):
    store = open_store(workspace)
    test_id, (ana, _) = opened(store, prompts=4)
    trials.vote(store, ana, trials.next_trial(store, ana).id, "left")
    before = blind_test_picture.picture(test_id, workspace)
    assert before["verdict"] == "" and before["can"]["early"] and not before["can"]["report"]
    assert "1 of 4 planned votes" in before["progress"] and "hidden" in before["progress"]
    with pytest.raises(InputError, match="hidden"):
        lessons.of_test(store, test_id, workspace)

    assert "So far there are 1 of 4 planned votes" in blind_test_picture.warning("early", test_id, workspace)
    blind_tests.open_early(store, test_id)
    after = blind_test_picture.picture(test_id, workspace)
    assert "opened early" in after["verdict"].lower() and not after["can"]["early"]


def test_votes_can_teach_once_one_is_clearly_better_and_not_before(workspace):
    store = open_store(workspace)

    def one_wins(left):
        return left.endswith("1")

    def each_wins_half(left):
        return left.endswith("1") == (int(left.split()[0]) % 2 == 0)

    for prefers, clear in ((one_wins, True), (each_wins_half, False)):
        test_id, (ana, _) = opened(store, prompts=12)
        while trial := trials.next_trial(store, ana):
            trials.vote(store, ana, trial.id, "left" if prefers(trial.left) else "right")
        found = blind_test_picture.picture(test_id, workspace)
        assert found["can"]["report"] and found["can"]["learn"] is clear
        assert found["verdict"].count("<strong>") == 1


def test_answers_that_name_a_model_wait_for_their_owner_and_all_others_open_the_test(workspace):
    store = open_store(workspace)
    for says, opens in (("Paris", True), ("I am Qwen", False), ("", False)):
        test_id = answered(store, lambda prompt, position, says=says: f"{prompt} {position}" if position else says)
        assert open_unless_flagged(workspace, test_id) is opens
        found = blind_test_picture.picture(test_id, workspace)
        assert bool(found["flags"]) is not opens and found["open"].startswith("I've checked") is not opens
    cut = answered(store)
    prompt, contestant = blind_tests.list_prompts(store, cut)[0], blind_tests.list_contestants(store, cut)[0]
    blind_tests.save_answer(store, prompt.id, contestant.id, "and so on and so", cut=True)
    assert open_unless_flagged(workspace, cut)
    assert "1 cut at the maximum length" in blind_test_picture.picture(cut, workspace)["facts"]


def test_where_people_vote_is_asked_once_and_a_link_for_phones_never_leads_to_this_machine(workspace, monkeypatch):
    assert serving.must_ask(workspace)
    monkeypatch.setattr(serving, "_address_in_network", lambda: "127.0.0.1")
    with pytest.raises(FtlabError, match="not on a network"):
        serving.serve(workspace, "network")
    assert serving.must_ask(workspace)
    page = serving.serve(workspace, "machine")
    try:
        assert not serving.must_ask(workspace) and "127.0.0.1" in page.url
        store = open_store(workspace)
        test_id, _ = opened(store)
        links.open_link(store, test_id)
        shown = blind_test_picture.picture(test_id, workspace)["share"]
        assert "this computer only" in shown and "<svg" not in shown
    finally:
        page.app.close()


def test_a_contestant_that_nobody_named_is_never_called_what_it_is_not(workspace):
    values = form.usual(workspace).changed({"system_2": "Be brief.", "from": "pasted", "pasted": "One?"})
    assert [one.title for one in plan.contestants(values, workspace)] == ["base", "prompted"]
    twice = values.changed({"who_1": "prompted", "system_1": "Be long."})
    assert [one.title for one in plan.contestants(twice, workspace)] == ["prompted 1", "prompted 2"]
    assert plan.look(values, workspace).complete
    missing = plan.look(values.changed({"system_2": " "}), workspace)
    assert not missing.complete and "Contestant 2 needs a system prompt" in missing.power


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


def finished_run(workspace):
    run = workspace.create_run("toy")
    write_text(run.config_file, build_config({}).resolved().to_yaml())
    write_status(run.status_file, RunStatus(state="completed", created=1.7e9, started=1.7e9))
    run.adapter.mkdir()
    write_text(run.adapter / "adapter_config.json", "{}")
    return run


def test_every_field_of_the_form_has_a_usual_value_and_is_kept(workspace):
    import gradio as gr

    from ftlab.ui.tabs.blind_test import layout

    with gr.Blocks():
        fields = layout.draw().form.fields
    usual = form.usual(workspace).by_component()
    assert fields.keys() == usual.keys()
    others = {str: "something else", float: 40.0, bool: True, list: ["skip"]}
    other = {name: others[type(value)] for name, value in usual.items()}
    form.keep(form.usual(workspace).changed(other), workspace)
    assert form.load(workspace).by_component() == other == read_json(workspace.new_test_file)


def test_a_plan_of_no_worse_than_is_a_number_of_points_or_one_message(workspace):
    values = form.usual(workspace).changed(
        {"who_1": "base", "who_2": "base", "from": "pasted", "pasted": "\n".join("abcdef")}
    )
    assert plan.settings(values).margin == 0
    values = values.changed({"no_worse_by": " 7.5 "})
    assert plan.settings(values).margin == 7.5
    assert "no worse by more than 7.5 points" in plan.look(values, workspace).plan
    for text, more in (("much", {}), ("50", {}), ("nan", {}), ("5", {"who_3": "base"})):
        look = plan.look(values.changed({"no_worse_by": text} | more), workspace)
        assert not look.complete and "No worse by takes points of the win rate" in look.power


def test_items_that_show_how_reliable_raters_are_are_numbers_or_one_message(workspace):
    values = form.usual(workspace).changed(
        {"who_1": "base", "who_2": "base", "from": "pasted", "pasted": "\n".join("abcdef")}
    )
    values = values.changed({"attention": "2", "min_attention": "75", "repeats": "25", "min_consistency": "60"})
    how = plan.settings(values)
    assert (how.attention, how.min_attention, how.repeats, how.min_consistency) == (2, 0.75, 0.25, 0.6)
    assert "8 votes on 4 prompts" in plan.look(values, workspace).power, "two prompts are set aside"
    for change, message in (
        ({"attention": "6"}, "attention items is not possible"),
        ({"attention": "few"}, "takes a whole number"),
        ({"repeats": "0"}, "excluded by their consistency"),
        ({"repeats": "90"}, "cannot be repeated"),
    ):
        look = plan.look(values.changed(change), workspace)
        assert not look.complete and message in look.power


def test_what_nobody_filled_in_follows_the_newest_run_and_what_somebody_did_stays(workspace):
    values = form.usual(workspace)
    assert (values.contestants[1].who, values.held_out) == ("prompted", "")
    form.keep(values.changed({"instructions": "Which is shorter?"}), workspace)  # looked at before there is a run
    run = finished_run(workspace)
    seen = form.load(workspace)
    assert [contestant.who for _, contestant in seen.among] == ["base", f"run:{run.id}"]
    assert seen.instructions == "Which is shorter?"
    # The prompts are the held-out rows of that run, and the page says whose.
    assert plan.source_in_words(seen, workspace) == "held-out prompts of Support triage"
    assert plan._source(seen) == f"run:{run.id}"
    form.keep(seen.changed({"who_2": "prompted"}), workspace)
    assert form.load(workspace).contestants[1].who == "prompted"
    assert not form.NewTest().changed({"who_1": None, "who_2": ""}).among


def test_conversations_are_offered_for_rows_and_refused_where_none_has_several_turns(workspace, tmp_path):
    turns = [{"role": "user", "content": "Name a bird."}, {"role": "assistant", "content": "owl"}]
    file = tmp_path / "talks.jsonl"
    rows = [[*turns, {"role": "user", "content": f"Name {n} more."}] for n in range(8)]
    file.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    values = form.usual(workspace).changed({"system_2": "Be brief.", "from": "file", "file": str(file)})
    values = values.changed({"votes_per_prompt": "1", "conversations": True})
    look = plan.look(values, workspace)
    assert look.complete and "8 of them with several turns of the user" in look.preview
    assert "Name a bird. / Name 0 more." in look.preview
    asked = plan.asked(values, workspace).prompts
    assert [turn["role"] for turn in asked[0].messages] == ["user", "user"] and plan.settings(values).conversations
    assert (
        len(plan.asked(values.changed({"conversations": False}), workspace).prompts) == 1
    )  # the first turn of each row

    single = values.changed({"from": "held_out", "held_out": "brand_voice"})
    look = plan.look(single, workspace)
    assert not look.complete and "untick Whole conversations" in look.power
    assert not plan.settings(values.changed({"from": "pasted"})).conversations


def test_the_number_of_prompts_that_stands_in_the_form_is_never_more_than_there_are(workspace):
    import gradio as gr

    from ftlab.ui.tabs.blind_test import layout

    with gr.Blocks():
        drawn = layout.draw().form
    values = form.usual(workspace).changed({"system_2": "Be brief.", "from": "pasted"})

    def usual(**changed):
        asked = values.changed(changed)
        look = plan.look(asked, workspace)
        field = form.suit(drawn, asked, [], look.limit)[drawn.fields["number"]]
        return len(plan.asked(asked, workspace).prompts), field["placeholder"], field["info"], look.power

    lines = [f"Question {n}?" for n in range(50)]
    assert usual(pasted="\n".join(lines[:12]))[:3] == (12, "12", "12 at most: all pasted lines.")
    assert usual(pasted="\n".join(lines))[:3] == (40, "40", "50 at most: all pasted lines.")
    assert usual(pasted="\n".join(lines), number="50")[0] == 50
    more = usual(pasted="\n".join(lines[:12]), number="13")
    assert more[0] == 12 and "no more are available" in more[3]
    assert usual(**{"from": "live", "planned": "20"})[:3] == (0, "", None)
