"""The Evaluate tab without a browser: a comparison, its rows, its slices, and runs side by side."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

pytest.importorskip("gradio")

from ftlab.core.comparison import whole_form
from ftlab.core.files import write_json, write_jsonl
from ftlab.core.jobs import write_status
from ftlab.errors import InputError
from ftlab.evaluation.rows import columns_of, findings, ordered, select, slices
from ftlab.evaluation.verdict import side_by_side
from ftlab.training import supervisor
from ftlab.training.status import RunStatus
from ftlab.ui.kit import answer_tables
from ftlab.ui.tabs.evaluate import form as evaluate_form
from ftlab.ui.tabs.evaluate import result as evaluate_result
from ftlab.ui.tabs.evaluate import summary as evaluate_summary
from ftlab.ui.tabs.evaluate import tab as evaluate
from ftlab.ui.tabs.evaluate.slices import slice_table
from tests.comparisons import CREATED, SIDES, a_row, evaluated_run, three_sides, twenty_rows

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>"
PAIR = ("base", "adapted")
EXACT = {"name": "exact_match", "title": "Exact match", "better": "higher", "kind": "share", "unit": "%"}


def found(rows, search="", kind="All", measure="exact_match", higher=True):
    return [row["row"] for row in select(rows, search, kind, measure, PAIR, higher=higher)]


def test_answers_are_found_by_words_and_by_what_became_of_them():
    rows = [a_row(0, False, True, prompt="Where is my parcel?"), a_row(1, True, False, prompt="A box for Ann")]
    rows.append(a_row(2, False, False) | {"adapted": "LOST"})
    assert found(rows) == [0, 1, 2]
    assert (found(rows, "box ann"), found(rows, "lost")) == ([1], [2])
    assert [found(rows, kind=kind) for kind in ("Improved", "Got worse", "Both wrong")] == [[0], [1], [2]]
    # By the loss, lower is better: 2.01 to 0.5, 0.5 to 2.01, no change.
    assert [found(rows, kind=kind, measure="loss", higher=False) for kind in ("Improved", "Got worse")] == [[0], [1]]


def test_rows_without_scores_go_by_equality_and_documents_by_their_loss():
    old = [{key: value for key, value in row.items() if key != "scores"} for row in twenty_rows()]
    assert found(old, kind="Got worse") == [3]
    documents = [
        {"row": 0, "document": "The mill turns.", "base_loss": 2.0, "adapted_loss": 1.0},
        {"row": 1, "document": "The mill stands.", "base_loss": 1.0, "adapted_loss": 2.0},
    ]
    assert found(documents, "MILL", "Improved", "loss", higher=False) == [0]
    assert found(documents, "stands", "Got worse", "loss", higher=False) == [1]


def test_rows_are_sorted_by_loss_and_by_change():
    rows = [a_row(row, False, False, base_loss=2.0, adapted_loss=loss) for row, loss in enumerate((1.0, 3.0, 2.0))]
    rows.append({"row": 3, "prompt": "?", "reference": ""})
    for order, wanted in {"loss": [1, 2, 0, 3], "lost": [1, 2, 0, 3], "gained": [0, 2, 1, 3]}.items():
        assert [row["row"] for row in ordered(rows, order, "loss", PAIR, higher=False)] == wanted, order


def test_words_that_are_not_in_the_reference_are_marked():
    look = answer_tables.Look(1, 1, EXACT, PAIR, ("Base", "Adapted"))
    shown = str(answer_tables.answer_table([a_row(0, False, True)], look))
    assert "the <ins>blue</ins> parcel" in shown and shown.count("<ins>") == 1
    between = answer_tables.Look(1, 1, EXACT, PAIR, ("Base", "Adapted"), "sides")
    shown = str(answer_tables.answer_table([a_row(0, False, True)], between))
    assert "the <del>blue</del> parcel" in shown and "the <ins>red</ins> parcel" in shown


def test_the_first_of_several_answers_is_shown_with_how_many_are_right():
    look = answer_tables.Look(1, 1, EXACT, PAIR, ("Base", "Adapted"))
    row = a_row(0, False, True, samples=5, right={"base": 1, "adapted": 4})
    shown = str(answer_tables.answer_table([row], look))
    assert "1 of 5 answers right" in shown and "4 of 5 answers right" in shown
    assert "answers right" not in str(answer_tables.answer_table([a_row(0, False, True)], look))


def test_a_slice_has_its_own_share_interval_and_change():
    rows = [a_row(row, False, row < 8, columns={"channel": "mail" if row < 10 else "phone"}) for row in range(20)]
    assert columns_of(rows) == ["channel"]
    mail, phone = slices(rows, "channel", "exact_match", PAIR)
    assert (mail.value, mail.rows, mail.means, mail.differences) == (
        "mail",
        10,
        {"base": 0.0, "adapted": 0.8},
        {"adapted": 0.8},
    )
    # Wilson, 8 of 10 (Brown, Cai and DasGupta 2001): 0.4902 to 0.9433.
    assert mail.intervals["adapted"] == pytest.approx([0.4902, 0.9433], abs=1e-4)
    assert phone.difference_intervals["adapted"][0] < 0 < phone.difference_intervals["adapted"][1]
    shown = str(slice_table(three_sides(), rows, "channel", "exact_match"))
    assert "+80 points" in shown and "mail" in shown


def test_a_slice_is_a_finding_only_among_all_slices_that_are_looked_at():
    # In each of ten cities of seven rows nothing changes but in one, where six rows are gained: p = .031 by itself.
    rows = [a_row(row, False, row < 6, columns={"city": f"city {row // 7}"}) for row in range(70)]
    found = slices(rows, "city", "exact_match", PAIR)
    assert [round(one.p["adapted"], 3) for one in found] == [0.031] + [1.0] * 9
    assert findings(found, "adapted") == [False] * 10
    assert findings(found[:1], "adapted") == [True]
    assert "ft-up" not in str(slice_table(three_sides(), rows, "city", "exact_match"))


def test_rows_of_one_customer_are_one_draw_in_a_slice_too():
    rows = [a_row(row, False, row < 8, columns={"channel": "mail"}) | {"cluster": row // 4} for row in range(12)]
    rows += [a_row(row, False, False, columns={"channel": "phone"}) for row in range(12, 20)]
    mail, _ = slices(rows, "channel", "exact_match", PAIR)
    assert mail.p["adapted"] == 0.5, "two customers of three changed"
    low, high = mail.intervals["adapted"]
    assert high - low > 0.6, "8 of 12 rows, and 2 of 3 customers"


def test_numbers_of_many_values_are_cut_at_their_quartiles_and_stay_in_order():
    rows = [a_row(row, False, True, columns={"length": row, "id": f"t{row}"}) for row in range(20)]
    assert columns_of(rows) == ["length"]
    found = slices(rows, "length", "exact_match", PAIR)
    assert [one.rows for one in found] == [4, 5, 5, 6]
    assert (found[0].value, found[-1].value) == ("0 to below 4", "14 to 19")


def test_a_value_that_is_missing_on_a_side_takes_its_row_out_of_the_slice():
    rows = [a_row(0, False, True), a_row(2, False, True, scores={"exact_match": {"base": 0.0, "adapted": None}})]
    rows.append(a_row(1, False, True))
    assert [(one.value, one.rows) for one in slices(rows, "channel", "exact_match", PAIR)] == [
        ("phone", 1),
        ("mail", 1),
    ]


def test_the_result_shows_every_side_with_interval_change_and_verdict(workspace):
    run = evaluated_run(workspace)
    shown = str(evaluate_result.result(run, run.comparison()))
    for part in (
        "The adapted model is better: exact match 80% against 10%",
        "Exact match decides, because answers here are right or wrong.",
        "Base, prompted",
        "+70 points",
        "−96%",
        "What it knew before",
        "Gained exact match; lost general accuracy.",
        "Memorization",
        "Accuracy: every class",
    ):
        assert part in shown, part
    assert shown.count("<svg") == 2


def test_the_first_view_is_the_verdict_three_figures_and_the_answers_that_changed_most(workspace):
    run = evaluated_run(workspace)
    comparison, rows = run.comparison(), run.predictions()
    shown = str(evaluate_summary.summary(run, comparison, rows))
    assert shown.index("The adapted model is better") < shown.index("10% → 80%") < shown.index("Gained most")
    gained, worse = evaluate_summary.changed_most(rows, "exact_match", PAIR, higher=True)
    # Only row 3 got worse; of those that gained, the ones that came down most in loss.
    assert len(gained) == 3 and [row["row"] for row in worse] == [3]
    same = [a_row(row, False, True, base_loss=2.0 + row, adapted_loss=1.0) for row in range(5)]
    gained, worse = evaluate_summary.changed_most(same, "exact_match", PAIR, higher=True)
    assert [row["row"] for row in gained] == [4, 3, 2] and worse == []
    assert "No answer got worse by exact match." in str(evaluate_summary.examples(comparison, same))
    # Words, counted by hand; the base's answer was cut off, so it would have been longer.
    texts = {"base": "one two three four", "adapted": "one two", "reference": "a b c", "base_cut": True}
    cut = [a_row(0, False, True) | texts]
    assert evaluate_summary._length(cut, *PAIR) == (
        "Length of answers",
        "≥4 → 2",
        "words, references 3; cut off: 1 and 0 of 1",
    )


def test_figures_of_other_data_say_so_beside_the_verdict(workspace):
    run = evaluated_run(workspace)
    own = str(evaluate_summary.summary(run, run.comparison(), run.predictions()))
    assert "held out from training" in own and "other data" not in own
    other = str(evaluate_summary.summary(run, three_sides(suite="faq.jsonl", split=""), twenty_rows()))
    assert "rows of faq.jsonl. This run was trained on Support triage: other data." in other


def test_what_is_pressed_next_is_share_with_a_result_and_evaluate_without(workspace):
    import gradio as gr

    run = evaluated_run(workspace)
    with gr.Blocks():
        tab = evaluate.build(workspace)

    def primary(run_id):
        found = evaluate.show(tab, run_id, [], "", None, workspace)
        buttons = {"share": found[tab.share], "evaluate": found[tab.form.start]}
        return [name for name, one in buttons.items() if one.get("visible", True) and one.get("interactive", True)
                and one.get("variant", "primary") == "primary"]  # fmt: skip

    assert primary(run.id) == ["share"]
    assert primary(None) == []
    run.comparison_file.unlink()
    assert primary(run.id) == ["evaluate"]


def test_a_comparison_of_before_measures_were_listed_still_shows(workspace):
    run = evaluated_run(workspace)
    old = run.comparison()
    for key in ("sides", "measures", "verdicts", "gain_loss", "forgetting", "memorisation", "suite"):
        old.pop(key)
    old["tests"] = {"exact_match": 0.0001, "perplexity": 0.0002, "bleu": 0.4, "general_accuracy": 0.01}
    shown = str(evaluate_result.result(run, whole_form(old)))
    assert "Base against adapted" in shown and "+70 points" in shown and shown.count("<svg") == 1


def test_a_confusion_matrix_counts_and_names_its_classes():
    detail = three_sides()["measures"][1]["detail"]
    sides = three_sides()["sides"]
    shown = str(evaluate_result.confusions(detail, sides))
    # 9 of 10 shipping rows were called so: nine tenths of the line.
    assert shown.count("--ft-share:90%") == len(SIDES)
    assert "billing" in str(evaluate_result.per_class(detail, sides))
    many = {"labels": [str(n) for n in range(30)]}
    assert "too many to display" in str(evaluate_result.confusions(many, sides))


def test_text_of_data_and_models_is_never_markup(workspace):
    row = a_row(0, False, True, prompt=ATTACK, reference=ATTACK, columns={ATTACK: ATTACK})
    row |= {"base": ATTACK, "adapted": f"{ATTACK}!"}
    hostile = three_sides(notes=[ATTACK])
    for side in hostile["sides"]:
        side |= {"title": ATTACK, "what": ATTACK}
    hostile["measures"][1]["detail"] |= {"labels": [ATTACK, "b"], "fields": {ATTACK: {"base": 0.5}}}
    hostile["measures"][0] |= {"title": ATTACK, "help": ATTACK, "rule": ATTACK}
    hostile["memorisation"] = {"text": ATTACK, "leaks": {"pairs": [dict.fromkeys(LEAK, ATTACK)]}}
    run = evaluated_run(workspace)
    look = answer_tables.Look(1, 1, EXACT | {"title": ATTACK}, PAIR, (ATTACK, ATTACK))
    rows = [row, a_row(1, False, True, columns={ATTACK: "b"}), a_row(2, False, True, columns={ATTACK: "b"})]
    for shown in (
        answer_tables.answer_table([row], look),
        answer_tables.document_table([row | {"document": ATTACK}], look),
        evaluate_result.result(run, hostile),
        evaluate_summary.summary(run, hostile, rows),
        slice_table(hostile, rows, ATTACK, "exact_match"),
    ):
        assert "<script" not in shown and "<img" not in shown
        assert "&lt;script&gt;alert(1)" in shown


LEAK = ("kind", "train_row", "held_out_row", "train", "held_out")


def test_runs_that_answered_the_same_rows_are_compared_without_asking_again(workspace):
    first, second = evaluated_run(workspace, "one"), evaluated_run(workspace, "two")
    better = [a_row(row, False, True) for row in range(20)]
    write_jsonl(second.predictions_file, better[:15])
    comparison, rows = evaluate.result_of(first.id, [second.id], "", workspace)
    # The first 15 rows: 11 right in the first run (3, 5, 9 and 11 are not), 15 in the second.
    exact = comparison["measures"][0]
    assert exact["values"] == pytest.approx({first.id: 11 / 15, second.id: 1.0})
    # Exact McNemar with four rows won and none lost: 2 * 0.5 ** 4.
    assert exact["differences"][second.id]["p"] == pytest.approx(0.125)
    assert len(rows) == 15 and rows[3][second.id] == "the red parcel"
    shown = str(evaluate_result.result(first, comparison))
    assert "These are the 15 rows that all runs answered." in shown
    write_jsonl(second.predictions_file, [a_row(99, True, True)])
    assert (
        side_by_side([(first.comparison(), first.predictions()), (second.comparison(), second.predictions())]) is None
    )


def test_a_result_on_other_rows_is_shown_in_its_turn(workspace):
    run = evaluated_run(workspace)
    suite = run.question("suites/faq")  # where an older ftlab put it
    write_json(suite.comparison_file, three_sides(suite="faq.jsonl", split=""))
    write_jsonl(suite.predictions_file, [a_row(0, False, True)])
    assert evaluate.result_views(run) == [("The run's own: held-out rows", ""), ("faq.jsonl (other data)", "faq")]
    comparison, rows = evaluate.result_of(run.id, [], "faq", workspace)
    assert comparison["suite"] == "faq.jsonl" and len(rows) == 1
    assert "faq.jsonl" in str(evaluate_result.result(run, comparison))


def test_a_first_evaluation_at_work_is_told_as_that_and_not_as_runs_that_answered_other_rows(workspace):
    import gradio as gr

    run = evaluated_run(workspace)
    run.comparison_file.unlink()
    with gr.Blocks():
        tab = evaluate.build(workspace)
    write_status(run.evaluation_status_file, RunStatus(created=time.time()))
    told = evaluate.show(tab, run.id, [], evaluate_form.NEXT, None, workspace)[tab.result]
    assert "The strip above shows its progress" in told and "the same rows" not in told


def test_the_own_comparison_is_shown_until_what_this_page_asked_is_there(workspace):
    import gradio as gr

    run = evaluated_run(workspace)
    with gr.Blocks():
        tab = evaluate.build(workspace)
    now = time.time()
    write_status(run.evaluation_status_file, RunStatus(created=now))

    def shown(view):
        found = evaluate.show(tab, run.id, [], view, None, workspace)
        return found[tab.form.view]["value"], [value for _, value in found[tab.form.view]["choices"]]

    assert shown(evaluate_form.NEXT) == (evaluate_form.NEXT, ["", evaluate_form.NEXT])
    place = run.question("5-rows")
    asked = {"name": "5-rows", "text": "5 of 20 held-out rows"}
    write_json(place.comparison_file, three_sides(run=run.id, created=now + 1, question=asked))
    write_jsonl(place.predictions_file, twenty_rows()[:5])
    write_status(run.evaluation_status_file, RunStatus(state="completed", created=now, finished=now + 1))
    assert shown(evaluate_form.NEXT) == ("5-rows", ["", "5-rows"])
    # Whoever comes later sees the run's own, and can choose.
    assert shown(None) == ("", ["", "5-rows"]) and shown("5-rows")[0] == "5-rows"
    assert evaluate.result_views(run)[1] == ("5 of 20 held-out rows", "5-rows")
    assert len(evaluate.result_of(run.id, [], "", workspace)[1]) == 20


def test_an_evaluation_that_failed_says_why_above_the_result_of_before(workspace):
    import gradio as gr

    run = evaluated_run(workspace)
    with gr.Blocks():
        tab = evaluate.build(workspace)
    error = {"what": "There is no such file", "why": None, "try": "check the path"}
    failed = RunStatus(state="failed", created=CREATED + 10, error=error)
    write_status(run.evaluation_status_file, failed)
    shown = evaluate.show(tab, run.id, [], "", None, workspace)[tab.result]
    assert shown.index("There is no such file") < shown.index("The adapted model is better")
    # One that came out well since then stands for itself.
    write_json(run.comparison_file, run.comparison() | {"created": CREATED + 20})
    assert "no such file" not in evaluate.show(tab, run.id, [], "", None, workspace)[tab.result]


def test_a_stop_is_told_where_the_work_was_started_and_no_longer_than_it_is_true(workspace):
    import gradio as gr

    run = evaluated_run(workspace)
    with gr.Blocks():
        tab = evaluate.build(workspace)

    def shown(task: str) -> str:
        stopped = RunStatus(state="stopped", created=CREATED + 10, task=task, warnings=["It was stopped."])
        write_status(run.evaluation_status_file, stopped)
        return evaluate.show(tab, run.id, [], "", None, workspace)[tab.result]

    assert "It was stopped." in shown(supervisor.EVALUATION)
    assert "It was stopped." in shown(""), "as files of before wrote it"
    assert "It was stopped." not in shown(supervisor.STRENGTHS), "that stands in the panel of the strengths"
    write_json(run.comparison_file, run.comparison() | {"created": CREATED + 20})
    assert "It was stopped." not in shown(supervisor.EVALUATION)


def test_a_remedy_changes_what_it_says_and_nothing_else(workspace):
    run = evaluated_run(workspace)
    from ftlab.config import load_config

    config = load_config(run.config_file)
    offered = evaluate.remedies_of(run)
    place = next(n for n, one in enumerate(offered) if one.changes.keys() == {"optimisation.learning_rate"})
    changed, remedy = evaluate.with_remedy(f"{run.id}:{place}", workspace)
    # The usual rate of LoRA on the starter is 0.004.
    assert (config.optimisation.learning_rate, changed.optimisation.learning_rate) == (0.004, 0.002)
    changed.optimisation.learning_rate = 0.004
    assert changed == config
    assert "optimisation.learning_rate: 0.002" in str(evaluate.remedy_said(remedy))
    assert offered[place].title in str(evaluate.offered_remedies(run))
    with pytest.raises(InputError, match="no longer offered"):
        evaluate.with_remedy(f"{run.id}:99", workspace)


def test_the_form_passes_on_only_what_was_asked(workspace, tmp_path: Path):
    run, other = evaluated_run(workspace), evaluated_run(workspace)

    def read(others, rows, suite, measures, prompted, *more, retrieving=(False, "3", None)):
        prompting, last = more[:2], more[2:]
        return evaluate_form.read(
            run, workspace, others, rows, suite, measures, prompted, *prompting, *retrieving, *last, ""
        )

    plain = read([], "", "", ["auto"], False, "", "3", "", "")
    assert (plain.others, plain.suite, plain.max_rows, plain.settings) == ([], None, None, {})
    asked = read(
        [run.id, other.id],
        "50",
        "faq.jsonl",
        ["auto", "bleu", "chrf", "mine.py"],
        True,
        "Be brief.",
        "2",
        "a, b",
        "^ok",
    )
    assert (asked.others, asked.suite, asked.max_rows) == ([other], "faq.jsonl", 50)
    assert asked.settings == {
        "measures": "bleu, chrf",
        "prompted": True,
        "system_prompt": "Be brief.",
        "examples": 2,
        "labels": "a, b",
        "pattern": "^ok",
        "own_metrics": "mine.py",
    }
    with pytest.raises(InputError, match="Maximum test rows"):
        read([], "some", "", [], False, "", "", "", "")
    # Retrieval: of training rows, or of documents, which are kept whatever their names.
    rows = read([], "", "", [], False, "", "", "", "", retrieving=(True, "", None))
    assert rows.settings == {"retrieved": 3}
    manual = tmp_path / "Prices, rooms.md"
    manual.write_text("A double room costs 90 euros.", encoding="utf-8")
    of = read([], "", "", [], False, "", "", "", "", retrieving=(True, "2", [str(manual)])).settings
    assert of["retrieved"] == 2
    assert [file.read_text() for file in Path(of["documents"]).iterdir()] == ["A double room costs 90 euros."]
    with pytest.raises(InputError, match="Nearest"):
        read([], "", "", [], False, "", "", "", "", retrieving=(True, "0", None))
