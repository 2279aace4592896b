"""How far a model moved from its base: agreement and KL along the base's own answers, their intervals and words."""

from __future__ import annotations

import json
from dataclasses import replace
from html import unescape

import pytest
import torch

from ftlab.cli.output import print_table
from ftlab.config import build_config
from ftlab.core.run_directory import RunDirectory
from ftlab.data.rendering import encode, encode_prompt, stop_token_ids
from ftlab.evaluation import probes as own_answers
from ftlab.evaluation.compare import evaluate_before, evaluate_run
from ftlab.evaluation.drift import answer_of_figures, drift_parts, figures_of, kinds_in_words
from ftlab.evaluation.forgetting import General, forgetting_of, lost_in_words
from ftlab.evaluation.keeping import Kept, Reply, ToFollow, ToWrite, completed, keep, recall
from ftlab.evaluation.probes import Followed, Probe, follow, from_elsewhere, is_right, load_general, write_own
from ftlab.evaluation.request import Request
from ftlab.evaluation.sides import config_of
from ftlab.models.load import load_tokenizer
from ftlab.report.markdown import write_markdown
from ftlab.report.report import write_report
from ftlab.training.preflight.asking import Amount, amount_of
from ftlab.ui.tabs.evaluate.result import moved as moved_answers
from tests.small_runs import adapted_model, make_base, make_run, save_result

QUESTIONS = ["Hi.", "What is the capital of France?", "Name three colors that one sees in a rainbow, please."]


@pytest.fixture(scope="module")
def tokenizer(base_folder):
    return load_tokenizer(str(base_folder))


@pytest.fixture(scope="module")
def base(base_folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base_folder).eval()


@pytest.fixture(scope="module")
def prompts(tokenizer):
    return [
        encode_prompt([{"role": "user", "content": text}, {"role": "assistant", "content": ""}], tokenizer)
        for text in QUESTIONS
    ]


def settings(base, tokenizer, rows=2):
    stops = stop_token_ids(tokenizer, base.generation_config)
    return {"max_new_tokens": 12, "stop_ids": stops, "batch_rows": rows, "context": None}


def plainly(base, model, prompt, ids):
    """KL and agreement of one row by the whole distributions, without batches."""
    text = torch.tensor([[*prompt, *ids]])
    with torch.no_grad():
        old, new = (
            torch.log_softmax(one(input_ids=text).logits[0, len(prompt) - 1 : -1].double(), -1) for one in (base, model)
        )
    return float((old.exp() * (old - new)).sum()), int((old.argmax(1) == new.argmax(1)).sum())


def test_agreement_and_kl_are_those_of_a_plain_computation_row_by_row(
    base, base_folder, tokenizer, prompts, monkeypatch
):
    monkeypatch.setattr(own_answers, "TOP", 10_000)  # more than the vocabulary has: nothing is cut
    tuned = adapted_model(base_folder)
    more = settings(base, tokenizer)
    written, _ = write_own(base, tokenizer, prompts, **more)
    followed, _ = follow(tuned, tokenizer, prompts, written, **more)
    for prompt, own, one in zip(prompts, written, followed, strict=True):
        kl, same = plainly(base, tuned, prompt, own.ids)
        assert one.kl == pytest.approx(kl, rel=1e-4) and one.kl > 0.1
        assert (one.same, one.tokens) == (same, len(own.ids))


def test_the_base_answers_greedily_and_what_it_found_likeliest_is_what_it_wrote(base, tokenizer, prompts):
    written, _ = write_own(base, tokenizer, prompts, **settings(base, tokenizer))
    for prompt, own in zip(prompts, written, strict=True):
        ids = list(prompt)
        with torch.no_grad():
            for token in own.ids:
                assert token == int(base(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
                ids.append(token)
        assert own.top[:, 0].tolist() == list(own.ids)


@pytest.mark.parametrize("kept", [1, 8, 64, 256])
def test_what_is_computed_of_the_likeliest_tokens_is_never_more_than_the_whole(
    base, base_folder, tokenizer, prompts, monkeypatch, kept
):
    tuned, more = adapted_model(base_folder), settings(base, tokenizer)
    found = {}
    for top in (kept, 10_000):
        monkeypatch.setattr(own_answers, "TOP", top)
        written, _ = write_own(base, tokenizer, prompts, **more)
        found[top] = sum(one.kl for one in follow(tuned, tokenizer, prompts, written, **more)[0])
    assert 0 < found[kept] <= found[10_000] + 1e-6
    if kept == 256:
        assert found[kept] > 0.5 * found[10_000]


def test_a_model_moved_by_nothing_is_kept(base, tokenizer, prompts):
    more = settings(base, tokenizer)
    written, _ = write_own(base, tokenizer, prompts, **more)
    followed, _ = follow(base, tokenizer, prompts, written, **more | {"batch_rows": 1})
    assert [one.kl for one in followed] == pytest.approx([0, 0, 0], abs=1e-5)
    assert all(one.same == one.tokens for one in followed)
    assert [one.answer for one in followed] == [own.text for own in written]
    figures = figures_of(followed * 34)
    assert figures["agreement"] == 1 and answer_of_figures(figures) == "kept"
    # A hundred prompts that agree do not show that every prompt does.
    assert 0.9 < figures["agreement_interval"][0] < 0.99


def test_two_tokens_that_are_equally_likely_are_no_change(base_folder, tokenizer, prompts):
    """In bfloat16 logits tie often, and which of them comes first is chance."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        model.lm_head.weight.copy_(model.lm_head.weight[torch.arange(len(model.lm_head.weight)) // 2 * 2])
    more = settings(model, tokenizer)
    written, _ = write_own(model, tokenizer, prompts, **more)
    assert all(one.same == one.tokens > 0 for one in follow(model, tokenizer, prompts, written, **more)[0])


def test_intervals_are_by_prompt_not_by_token():
    apart = [Followed(40.0 if i % 2 else 0.0, 0 if i % 2 else 40, 40) for i in range(100)]
    figures = figures_of(apart)
    assert figures["kl"] == 0.5 and figures["agreement"] == 0.5
    low, high = figures["agreement_interval"]
    # Wilson's interval of 50 of 100 is 40.4% to 59.6%; that of 2,000 of 4,000 would be 48.5% to 51.5%.
    assert low == pytest.approx(0.404, abs=0.005) and high == pytest.approx(0.596, abs=0.005)


def test_the_limits_tell_kept_from_lost_and_leave_a_gap():
    def of(kl, agreement, prompts=100):
        rows = [Followed(40 * kl, min(40, round(40 * agreement) + i % 3 - 1), 40) for i in range(prompts)]
        return answer_of_figures(figures_of(rows))

    assert of(0.02, 0.95) == "kept"
    assert of(0.43, 0.75) == "lost"
    assert of(0.10, 0.90) == "unknown"
    assert of(0.43, 0.975) == "unknown"  # the two figures disagree
    assert of(0.43, 0.75, prompts=5) == "unknown"


def moved(kl, same, answer="Bananas."):
    prompts = [Probe(i, [{"role": "user", "content": f"Question {i}?"}], "", "facts") for i in range(40)]
    own = own_answers.Written((1,) * 40, "Paris.", False, None, None)
    return drift_parts(prompts, [own] * 40, [Followed(kl + i / 1000, same, 40, answer) for i in range(40)])


def test_answers_that_changed_are_told_with_an_example_and_are_not_called_worse():
    [part] = moved(20.0, 30)
    found = forgetting_of([], moved=[part])
    assert found["answer"] == "lost" and found["forgot"]
    # The answers stand beside the text, the most changed first.
    changed = part["changed"][0]
    assert (changed["base"], changed["side"]) == ("Paris.", "Bananas.") and "Question 39?" in str(changed["prompt"])
    assert "75% of places" in lost_in_words(found) and "0.50" in lost_in_words(found)
    assert "above 0.15 nats and below 90%" in part["text"]


def test_net_accuracy_decides_where_the_base_knows_enough_and_moved_answers_where_it_does_not():
    def answer(known):
        same = {"base": [True] * known + [False] * 5, "adapted": [True] * known + [False] * 5}
        found = forgetting_of([General("general_accuracy", "general questions", same)], moved=moved(20.0, 30))
        return found["answer"]

    assert answer(59) == "lost"
    assert answer(60) == "kept"


def test_lost_questions_count_however_few_are_known():
    lost = {"base": [True] * 30, "adapted": [False] * 30}
    found = forgetting_of([General("general_accuracy", "general questions", lost)], moved=moved(0.1, 40))
    assert found["answer"] == "lost" and "forgot" not in lost_in_words(found)


def test_what_was_written_is_kept_to_the_bit_and_read_by_row(tmp_path, base, tokenizer, prompts):
    run = RunDirectory(tmp_path / "run")
    (run.evaluation / "results").mkdir(parents=True)
    written, _ = write_own(base, tokenizer, prompts, **settings(base, tokenizer))
    question = ToWrite(prompts, 12, None)
    keep(run, ["base"], question, Reply(written=written), {})
    [back] = recall(run, ["base"], replace(question, prompts=prompts[1:2])).reply.written
    assert (back.ids, back.text, back.cut) == (written[1].ids, written[1].text, written[1].cut)
    assert (back.top == written[1].top).all() and (back.logs == written[1].logs).all()
    assert recall(run, ["base"], replace(question, max_new_tokens=13)).reply is None
    followed = ToFollow(question, ["base"])
    assert recall(run, ["base"], followed).reply is None
    said = completed(followed, Kept(None, [None] * 3, True), Reply(followed=[Followed(1.0, 2, 3, "x")] * 3))
    keep(run, ["tuned"], followed, said, {})
    assert recall(run, ["tuned"], followed).reply.followed == [Followed(1.0, 2, 3, "x")] * 3


@pytest.fixture(scope="module")
def run(tmp_path_factory, base_folder):
    run = make_run(tmp_path_factory.mktemp("runs"), base_folder, "self")
    evaluate_before(run)
    save_result(run, base_folder)
    return run


@pytest.fixture(scope="module")
def comparison(run):
    return evaluate_run(run)


def measure(comparison, name):
    return next(one for one in comparison["measures"] if one["name"] == name)


def test_a_run_on_any_base_is_compared_with_it_along_the_answers_it_gave_before_training(comparison):
    [part] = comparison["forgetting"]["parts"]
    assert part["prompts"] == 100 and part["decides"]
    assert {one["kind"] for one in part["of_kinds"]} >= {"facts", "code", "refusal"} and len(part["of_kinds"]) == 10
    assert measure(comparison, "base_kl")["values"] == {"base": 0.0, "adapted": part["kl"]}
    assert measure(comparison, "base_agreement")["intervals"]["adapted"] == part["agreement_interval"]
    assert measure(comparison, "base_kl_task")["rows"] == 6
    assert [one["kl"] for one in part["changed"]] == sorted((one["kl"] for one in part["changed"]), reverse=True)
    assert len(part["changed"]) == 5
    assert part["answer"] == "lost" and "knew: changed, on neutral" in comparison["verdict"]["text"]


def test_answers_of_the_base_that_are_kept_are_never_asked_again(run, comparison, monkeypatch):
    monkeypatch.setattr("ftlab.evaluation.asking.write_own", None)
    monkeypatch.setattr("ftlab.evaluation.asking.follow", None)
    again = evaluate_run(run)
    assert again["forgetting"] == comparison["forgetting"]


def test_a_run_beside_it_takes_the_answers_of_the_base_over(run, comparison, base_folder, monkeypatch):
    beside = make_run(run.path.parent, base_folder, "self", name="beside")
    save_result(beside, base_folder, seed=2)
    monkeypatch.setattr("ftlab.evaluation.asking.write_own", None)
    found = evaluate_run(beside)["forgetting"]["parts"][0]
    assert found["tokens"] == comparison["forgetting"]["parts"][0]["tokens"]
    assert found["kl"] != comparison["forgetting"]["parts"][0]["kl"]


def test_full_weights_are_compared_as_adapters_are(tmp_path, base_folder, comparison):
    run = make_run(tmp_path, base_folder, "self", "full")
    save_result(run, base_folder, "full")
    [part] = evaluate_run(run)["forgetting"]["parts"]
    assert part["tokens"] == comparison["forgetting"]["parts"][0]["tokens"] and part["kl"] > 0


def test_without_probes_nothing_is_asked_and_the_first_line_says_so(tmp_path, base_folder):
    run = make_run(tmp_path, base_folder, "none")
    save_result(run, base_folder)
    found = evaluate_run(run)
    assert found["forgetting"] is None and not any(one["name"].startswith("base_") for one in found["measures"])
    assert "what the base knew: not measured" in found["verdict"]["text"]


def test_facts_are_right_where_the_answer_holds_one_of_their_forms_as_whole_words():
    probe = Probe(0, [], "three", held=True, also=("3",))
    assert is_right("There are 3 of them.", probe) and is_right("It has Three sides", probe)
    assert not is_right("There are 33, or threefold.", probe)
    assert not is_right("There are 3 of them.", replace(probe, held=False))


def test_choices_and_facts_are_asked_beside_the_neutral_prompts(tmp_path, base_folder):
    run = make_run(tmp_path, base_folder, "self, known_choices, known_facts")
    probes, choices, neutral, note = load_general(config_of(run))
    assert (len(probes), len(choices), len(neutral), note) == (120, 100, 100, None)
    assert [choices[0].options[choices[0].right], choices[0].kind] == ["Africa", "geography"]
    assert next(one for one in probes if one.reference == "New Delhi").also == ("Delhi",)


def test_the_likeliest_choice_is_the_one_with_the_largest_summed_log_probability(
    tmp_path, base_folder, base, tokenizer
):
    options = {"A": "ice", "B": "the sun in July", "C": "snow", "D": "rain"}
    rows = [{"question": "Which is hot?", **options, "answer": letter} for letter in options]
    file = tmp_path / "choices.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = make_run(tmp_path, base_folder, file)
    save_result(run, base_folder)
    evaluate_run(run)
    question = {"role": "user", "content": "Which is hot?"}
    sums, special = {}, tokenizer.all_special_ids
    for letter, text in options.items():
        encoded = encode([question, {"role": "assistant", "content": text}], tokenizer)
        ids = encoded.input_ids
        with torch.no_grad():
            logs = torch.log_softmax(base(input_ids=torch.tensor([ids])).logits[0], -1)
        sums[letter] = sum(
            float(logs[i - 1, ids[i]]) for i in range(1, len(ids)) if encoded.trained[i] and ids[i] not in special
        )
    likeliest = max(sums, key=sums.get)
    file.write_text(json.dumps(rows["ABCD".index(likeliest)]) + "\n")
    found = evaluate_run(run)
    assert measure(found, "choices_general_accuracy")["values"]["base"] == 1
    [part] = found["forgetting"]["parts"]
    assert part["known"] == part["asked"] == 1


def test_kinds_that_were_not_replayed_are_judged_apart_and_all_prompts_stay_comparable():
    prompts = [
        Probe(i, [{"role": "user", "content": "Say."}], "", "code" if i < 30 else "facts", i >= 30) for i in range(100)
    ]
    held = [Followed(20.0 + i / 100 if i < 30 else 0.12, 25 + i % 3 if i < 30 else 40, 40) for i in range(100)]
    whole, unseen = drift_parts(prompts, [], held)
    assert (whole["prompts"], unseen["prompts"]) == (100, 30)
    assert (unseen["measure"], unseen["answer"]) == ("base_kl_not_replayed", "lost")
    assert unseen["kl"] == pytest.approx(20.145 / 40) and whole["kl"] < 0.16
    found = forgetting_of([], moved=[whole, unseen])
    assert found["answer"] == "lost" and "of kinds not replayed" in lost_in_words(found)
    told = kinds_in_words({"forgetting": found})
    assert "kinds that were not replayed: code 65% (0.504)" in told and "replayed kinds: facts 100% (0.003)" in told


def test_only_probes_that_are_not_here_need_a_network(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text("{}")
    assert not from_elsewhere("auto") and not from_elsewhere(f"self, known_facts, {file}") and not from_elsewhere(None)
    assert from_elsewhere("self, somebody/probes")


def test_questions_of_several_sources_have_numbers_of_their_own(tmp_path, base_folder):
    run = make_run(tmp_path, base_folder, "known_facts, general_probes")
    probes, *_ = load_general(config_of(run))
    assert len({probe.row for probe in probes}) == len(probes) == 320


def test_a_run_on_another_base_is_not_measured_by_answers_that_its_base_never_gave(tmp_path, base_folder, run):
    other_base = make_base(tmp_path / "other-base")
    other = make_run(run.path.parent, other_base, "self", name="elsewhere")
    save_result(other, other_base)
    found = evaluate_run(run, Request(others=[other]))
    assert measure(found, "base_kl")["values"]["elsewhere"] is None
    assert measure(found, "base_kl")["values"]["adapted"] > 0


def test_preflight_counts_what_the_base_writes_and_what_is_read_along_it():
    question = {"own": ToWrite([[1] * 10] * 20, 40, None)}
    assert amount_of(question, {}, once=True) == Amount(scored=1000, read=200, written=800)
    # The five answers that changed most are written too.
    assert amount_of(question, {}, once=True, follows=True) == Amount(scored=1000, read=50, written=200)


def test_the_answers_that_changed_most_stand_in_the_tab_the_report_and_the_terminal(run, comparison, capsys):
    [part] = comparison["forgetting"]["parts"]
    prompt = part["changed"][0]["prompt"]
    page = write_report(run).read_text()
    print_table(comparison)
    for shown in (
        unescape(moved_answers(comparison)),
        write_markdown(run).read_text(),
        unescape(page),
        capsys.readouterr().out,
    ):
        plain = " ".join(shown.replace("\\", "").split())
        assert prompt[:60] in plain
    assert "Same next token as the base" in page and "KL to the base on the task" in page


def test_what_is_asked_for_forgetting_is_about_a_fifth_of_the_run():
    from ftlab.evaluation.probes import affordable

    row = {"messages": [{"role": "user", "content": "x" * 368}, {"role": "assistant", "content": "x" * 12}]}
    splits = {"train": [row] * 100, "test": [row] * 10}  # 111 tokens a row by four characters and eight a turn

    def asked(own_answers=0, **optimisation):
        settings = {"batch_size": 8, "epochs": 1, **optimisation}
        config = build_config({"model": {"base": "smollm2"}, "optimisation": settings}).resolved()
        return affordable(config, splits, own_answers)

    # 3 * 11,100 tokens are trained, 4 * 1,110 are asked: a quarter of them, at 225 for a prompt or a passage.
    assert (3 * 3 * 11_100 + 4 * 1_110) // 4 // 225 == 115 and asked(epochs=3) == (115 - 35, 35)
    assert (3 * 160 * 111 + 4 * 1_110) // 4 // 225 == 64 and asked(epochs=2, max_steps=20) == (50, 35)
    assert (3 * 5 * 11_100 + 4 * 1_110) // 4 // 225 == 189 and asked(epochs=5) == (100, 89)
    assert asked() == (50, 35) and asked(epochs=50) == (100, 120)
    assert (3 * 3 * (11_100 + 5 * 80) + 4 * 1_110) // 4 // 225 == 119 and asked(5, epochs=3) == (84, 35)


def test_fewer_prompts_are_of_all_kinds_and_a_part_of_more():
    from collections import Counter

    from ftlab.evaluation.losses import load_general_text
    from ftlab.evaluation.probes import load_general
    from ftlab.models.load import load_tokenizer

    def prompts(name):
        config = build_config({"model": {"base": "smollm2"}, "evaluation": {"probes": name}})
        _, _, neutral, note = load_general(config)
        return neutral, note

    whole, few, more = prompts("self"), prompts("self:50"), prompts("self:71")
    assert len(whole[0]) == 100 and whole[1] is None and "50 of 100 neutral prompts" in few[1]
    counts = Counter(one.kind for one in few[0])
    assert len(counts) == 10 and [counts.pop(kind) for kind in ("refusal", "languages", "code")] == [10] * 3
    assert set(counts.values()) == {2, 3}
    assert {one.row for one in few[0]} < {one.row for one in more[0]} and len(more[0]) == 71
    config = build_config({"model": {"base": "smollm2"}, "evaluation": {"general_text": "general_reading:35"}})
    found, note = load_general_text(config, load_tokenizer("starter"), context=512)
    assert len(found["general"].pieces.sizes) == 35 and len(found["general"].kinds) == 7
    assert "35 of 120 rows of general_reading" in note


def test_how_much_is_asked_is_settled_by_the_data_and_what_a_person_said_stays(tmp_path):
    from ftlab.core.workspace import Workspace
    from ftlab.training import gate
    from ftlab.training.gate import prepare_data

    workspace = Workspace.open(tmp_path)

    def settled(**evaluation):
        values = {"model": {"base": "smollm2"}, "optimisation": {"max_steps": 3}, "evaluation": evaluation}
        config, _ = gate.checked(build_config(values), workspace, needs_base=False)
        prepare_data(config, workspace)
        return config.evaluation.probes, config.evaluation.general_text

    assert settled() == ("self:50", "general_reading:35")
    assert settled(probes="self") == ("self", "general_reading:35")
    assert settled(probes="none", general_text="none") == ("none", "none")
    assert settled(probes="known_facts", general_text=None)[0] == "known_facts"


def test_questions_about_facts_count_as_replayed_where_facts_were():
    from ftlab.evaluation.probes import was_replayed

    kinds = frozenset({"facts", "stories"})
    assert was_replayed("geography", kinds) and was_replayed("facts", kinds) and was_replayed("language", kinds)
    assert was_replayed("code", kinds) is False and was_replayed("languages", kinds) is False
    assert was_replayed("geography", frozenset({"stories"})) is False and was_replayed("geography", None) is None
