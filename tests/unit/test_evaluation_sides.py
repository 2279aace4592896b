"""Several sides of one comparison, what is kept of them, and that nothing but model and rows decides a figure."""

from __future__ import annotations

import json
import math
import random
from types import SimpleNamespace

import pytest
import torch

from ftlab.config import build_config
from ftlab.core.files import read_jsonl
from ftlab.core.jobs import Stopped
from ftlab.core.workspace import Workspace
from ftlab.data.rendering import encode
from ftlab.data.splits import read_split
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.compare import evaluate_before, evaluate_run
from ftlab.evaluation.losses import rolling_windows
from ftlab.evaluation.request import Request
from ftlab.evaluation.sides import _trained_identity
from ftlab.models.load import load_tokenizer
from ftlab.training import supervisor
from tests.small_runs import ROWS, adapted_model, make_base, make_run, plain_perplexity, save_result

ANSWERS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Eighty questions with a column beside them."""
    file = tmp_path_factory.mktemp("data") / "colours.jsonl"
    rows = [
        {"prompt": f"Which colour has thing {i}?", "completion": ANSWERS[i % 3], "customer": f"c{i % 4}", "size": i}
        for i in range(80)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def runs(tmp_path_factory, base_folder, source):
    """Two runs of one base on the same rows, in one folder."""
    folder = tmp_path_factory.mktemp("workspace") / "runs"
    made = [make_run(folder, base_folder, "none", name=name, source=str(source)) for name in ("first", "second")]
    for seed, run in enumerate(made, 1):
        save_result(run, base_folder, seed=seed)
    return made


def phases(call):
    """What was told of the progress while `call` was at work."""
    seen = []
    call(lambda phase, done, total: seen.append(phase))
    return list(dict.fromkeys(seen))


def rows_of(run):
    by_row = {row["row"]: row for row in read_split(run, "test")}
    return [by_row[shown["row"]] for shown in run.predictions()]


def answers_of(run, comparison):
    """What is kept of a comparison that asked something else than the run's own."""
    return run.question(comparison["question"]["name"]).predictions()


def test_what_was_said_before_training_is_not_asked_again_after_it(runs, base_folder):
    first, second = runs
    before = phases(lambda tell: evaluate_before(first, progress=tell))
    assert {"scoring the base on the reference answers", "answers of the base"} <= set(before)
    assert not any("adapted" in phase for phase in before)
    after = phases(lambda tell: evaluate_run(first, progress=tell))
    assert "answers of the adapted model" in after
    assert not any("the base" in phase for phase in after)
    # What the base took is a part of what the comparison took.
    spent = read_jsonl(first.evaluation / "seconds.jsonl")
    assert [one["what"] for one in spent] == ["base before training", "comparison"]
    assert first.comparison()["seconds_before"] == spent[0]["seconds"] > 0
    # Another run on the same base and rows finds what was said there; its own folder has it from then on.
    again = phases(lambda tell: evaluate_run(second, progress=tell))
    assert not any("the base" in phase for phase in again)
    kept = {file.name for file in (second.evaluation / "results").iterdir()}
    assert len(kept & {file.name for file in (first.evaluation / "results").iterdir()}) == 2
    assert phases(lambda tell: evaluate_run(first, progress=tell))[-2:] == [
        "looking up earlier answers",
        "working out the scores",
    ]


def test_other_weights_other_rows_and_other_settings_are_asked(runs, base_folder):
    _, run = runs
    evaluate_run(run)
    more_rows = phases(lambda tell: evaluate_run(run, Request(max_rows=ROWS + 1), progress=tell))
    assert {"answers of the base", "scoring the base on the reference answers"} <= set(more_rows)
    longer = phases(lambda tell: evaluate_run(run, Request(settings={"max_new_tokens": 9}), progress=tell))
    assert "answers of the base" in longer
    assert "scoring the base on the reference answers" not in longer
    save_result(run, base_folder, seed=3)
    retrained = phases(lambda tell: evaluate_run(run, progress=tell))
    assert "answers of the adapted model" in retrained
    assert "answers of the base" not in retrained
    save_result(run, base_folder, seed=2)


def test_only_rows_that_were_never_asked_are_asked_whatever_the_question(runs, base_folder, source, monkeypatch):
    """One run asks 3 rows, then its own 6 (of which those 3 may be some), then all 8: each row is asked once a side."""
    from ftlab.evaluation import asking as collect

    asked = []

    def counted(model, tokenizer, question, **more):
        asked.append((question.steps, type(question).__name__))
        return ask(model, tokenizer, question, **more)

    evaluate_run(runs[0], Request(max_rows=100))
    ask = collect.ask
    monkeypatch.setattr(collect, "ask", counted)
    run = make_run(runs[0].path.parent, base_folder, "none", name="third", source=str(source))
    save_result(run, base_folder, seed=5)
    for rows in (3, None, 100, 4):
        evaluate_run(run, Request(max_rows=rows))
    for kind in ("ToAnswer", "ToScore"):
        # The base has said all of it in the runs beside: only the adapted model is asked, and each of 8 rows once.
        assert sum(steps for steps, name in asked if name == kind) == 8
    before = {
        row["row"]: (row["base"], row["adapted"], row["adapted_loss"]) for row in run.question("8-rows").predictions()
    }
    assert len(before) == 8
    for place in (run, run.question("3-rows"), run.question("4-rows")):
        assert all(
            before[row["row"]] == (row["base"], row["adapted"], row["adapted_loss"]) for row in place.predictions()
        )


def test_the_comparison_of_a_run_outlives_every_other_question(runs, tmp_path):
    first, second = runs
    own = evaluate_run(first)
    files = [first.comparison_file, first.predictions_file, first.probes_file]
    before = [file.read_bytes() for file in files]
    others = [
        evaluate_run(first, Request(max_rows=3)),
        evaluate_run(first, Request(settings={"max_new_tokens": 5})),
        evaluate_run(first, Request(settings={"prompted": True})),
        evaluate_run(first, Request(settings={"measures": "exact_match"})),
        evaluate_run(first, Request(others=[second])),
    ]
    names = [one["question"]["name"] for one in others]
    assert names[0] == "3-rows" and names[2] == "prompted" and len(set(names)) == 5 and "" not in names
    assert own["question"] == {"name": "", "text": "6 of 8 held-out rows"}
    assert others[0]["question"]["text"] == "3 of 8 held-out rows"
    assert [file.read_bytes() for file in files] == before
    kept = {place.name for place in first.questions()}
    assert set(names) <= kept and len(first.question("3-rows").predictions()) == 3
    # The same question is asked again: its own place is taken, no other.
    again = evaluate_run(first, Request(max_rows=3))
    assert again["question"] == others[0]["question"]
    assert len(first.questions()) == len(kept) and first.question("3-rows").comparison()["created"] == again["created"]
    assert first.with_side("prompted").path == first.question("prompted").path


def test_what_was_answered_before_a_stop_is_kept(tmp_path, base_folder, source):
    run = make_run(tmp_path / "runs", base_folder, "none", source=str(source))
    save_result(run, base_folder)
    told = []
    with pytest.raises(Stopped):
        evaluate_run(
            run,
            progress=lambda phase, *_: told.append(phase),
            should_stop=lambda: "scoring the adapted model on the reference answers" in told,
        )
    assert run.comparison() is None
    rest = phases(lambda tell: evaluate_run(run, progress=tell))
    assert not any(phase.endswith("of the base") for phase in rest)


def test_a_stop_while_the_base_is_asked_ends_the_run_before_anything_is_trained(tmp_path, base_folder, source):
    from ftlab.training import worker
    from ftlab.training.status import StatusWriter

    run = make_run(tmp_path / "runs", base_folder, "none", source=str(source))
    run.stop_file.touch()
    writer = StatusWriter(run.status_file)
    try:
        with pytest.raises(worker.Stopped):
            worker.train(run, writer)
        assert writer.status.phase.startswith("before training: ")
        assert not run.checkpoints.exists()
    finally:
        writer.close()


def test_several_runs_stand_beside_one_base_with_the_figures_they_have_alone(runs, base_folder):
    first, second = runs
    together = evaluate_run(runs[0], Request(others=runs[1:]))
    assert [side["name"] for side in together["sides"]] == ["base", "adapted", second.id]
    measures = {measure["name"]: measure for measure in together["measures"]}
    tokenizer = load_tokenizer(str(base_folder))
    for name, seed in (("adapted", 1), (second.id, 2)):
        expected = plain_perplexity(adapted_model(base_folder, seed=seed), rows_of(first), tokenizer)
        assert measures["perplexity"]["values"][name] == pytest.approx(expected, rel=1e-4)
        assert measures["perplexity"]["differences"][name]["value"] == pytest.approx(
            expected - measures["perplexity"]["values"]["base"], rel=1e-3
        )
    assert set(together["verdicts"]) == {"adapted", second.id}
    for shown in answers_of(first, together):
        assert {"base", "adapted", second.id, f"{second.id}_loss"} <= shown.keys()
        assert set(shown["scores"]["exact_match"]) == {"base", "adapted", second.id}


def test_a_run_that_learned_the_rows_it_is_asked_is_named(runs, source, tmp_path, base_folder):
    first, _ = runs
    other = make_run(first.path.parent, base_folder, "none", name="other-split", source=str(source), seed=1)
    save_result(other, base_folder, seed=2)
    notes = evaluate_run(first, Request(others=[other]))["notes"]
    learned = {row["messages"][0]["content"] for row in read_split(other, "train")}
    shared = sum(row["messages"][0]["content"] in learned for row in rows_of(first))
    assert shared
    assert any(f"{other.id} was trained on the prompts of {shared} of these {ROWS} rows" in note for note in notes)


def test_the_prompted_base_is_given_examples_and_a_system_prompt_and_scored_on_the_same_tokens(runs, base_folder):
    from transformers import AutoModelForCausalLM

    first, _ = runs
    settings = {"prompted": True, "system_prompt": "Name one colour.", "examples": 2}
    comparison = evaluate_run(first, Request(settings=settings))
    assert [side["name"] for side in comparison["sides"]] == ["base", "prompted", "adapted"]
    assert comparison["sides"][1]["what"] == "system prompt and 2 examples"
    shown = [list(example) for example in comparison["settings"]["prompted"]["examples"]]
    train = {row["messages"][0]["content"]: row["messages"][1]["content"] for row in read_split(first, "train")}
    assert len({answer["content"] for _, answer in shown}) == 2  # different answers come first
    assert all(train[question["content"]] == answer["content"] for question, answer in shown)
    tokenizer, model = load_tokenizer(str(base_folder)), AutoModelForCausalLM.from_pretrained(base_folder).eval()
    system = [{"role": "system", "content": "Name one colour."}]
    total = count = 0
    for row in rows_of(first):
        ids = encode([*system, *(turn for one in shown for turn in one), *row["messages"]], tokenizer).input_ids
        tokens = sum(encode(row["messages"], tokenizer).trained)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        total -= sum(logits[place - 1, ids[place]].item() for place in range(len(ids) - tokens, len(ids)))
        count += tokens
    measures = {measure["name"]: measure for measure in comparison["measures"]}
    assert measures["perplexity"]["values"]["prompted"] == pytest.approx(math.exp(total / count), rel=1e-4)
    assert set(comparison["verdicts"]) == {"prompted", "adapted", "adapted_vs_prompted"}


def test_runs_whose_tokenizers_differ_are_compared_in_bits_per_byte(runs, base_folder, source, tmp_path_factory):
    first, _ = runs
    texts = [row["messages"][0]["content"] for row in read_split(first, "train")]
    tokenizer = load_tokenizer(str(base_folder)).train_new_from_iterator(texts, vocab_size=300)
    other_base = make_base(tmp_path_factory.mktemp("other"), tokenizer)
    other = make_run(first.path.parent, other_base, "none", name="other-base", source=str(source))
    save_result(other, other_base)
    measures = {measure["name"]: measure for measure in evaluate_run(first, Request(others=[other]))["measures"]}
    assert other.id not in measures["perplexity"]["values"]
    size = sum(len(row["messages"][1]["content"].encode()) for row in rows_of(first))
    for name, base in (("adapted", base_folder), (other.id, other_base)):
        tokenizer = load_tokenizer(str(base))
        loss = math.log(plain_perplexity(adapted_model(base), rows_of(first), tokenizer))
        tokens = sum(sum(encode(row["messages"], tokenizer).trained) for row in rows_of(first))
        assert measures["bits_per_byte"]["values"][name] == pytest.approx(loss * tokens / math.log(2) / size, rel=1e-4)


def test_labels_by_likelihood_are_those_with_the_lowest_loss(runs, base_folder):
    first, _ = runs
    settings = {"likelihood": True, "labels": list(ANSWERS)}
    comparison = evaluate_run(first, Request(settings=settings))
    measures = {measure["name"]: measure for measure in comparison["measures"]}
    tokenizer, model = load_tokenizer(str(base_folder)), adapted_model(base_folder)
    right = 0
    for row in rows_of(first):
        question, answer = row["messages"]
        losses = {}
        for label in ANSWERS:
            whole = encode([question, {"role": "assistant", "content": label}], tokenizer)
            with torch.no_grad():
                logits = model(torch.tensor([whole.input_ids])).logits[0].double().log_softmax(-1)
            ids = whole.input_ids
            losses[label] = -sum(logits[at - 1, ids[at]].item() for at in range(1, len(ids)) if whole.trained[at])
        right += min(losses, key=losses.get) == answer["content"]
    assert measures["likelihood_accuracy"]["values"]["adapted"] == pytest.approx(right / ROWS)
    rows = answers_of(first, comparison)
    assert {row["columns"]["label"] for row in rows} == {row["reference"] for row in rows}


def test_another_data_set_has_a_comparison_of_its_own(runs, tmp_path):
    first, _ = runs
    evaluate_run(first)
    before = first.comparison_file.read_bytes()
    suite = tmp_path / "More Things.jsonl"
    rows = [{"prompt": f"Which colour has thing {i}?", "completion": "red"} for i in range(70, 90)]
    suite.write_text("".join(json.dumps(row) + "\n" for row in rows))
    comparison = evaluate_run(first, Request(suite=str(suite), max_rows=20))
    assert first.comparison_file.read_bytes() == before
    assert comparison["question"]["text"] == "20 rows of More Things.jsonl"
    found = first.question(comparison["question"]["name"])
    assert found.name.startswith("more-things-20-rows-") and found in first.questions()
    assert found.comparison() == json.loads(json.dumps(comparison))
    assert [row["reference"] for row in found.predictions()] == ["red"] * 20
    learned = {row["messages"][0]["content"] for row in read_split(first, "train")}
    shared = sum(row["prompt"] in learned for row in rows)
    assert any(f"on the prompts of {shared} of these 20 rows" in note for note in comparison["notes"])


def test_the_columns_beside_the_text_stand_with_the_answers(runs, source):
    first, _ = runs
    evaluate_run(first)
    original = [json.loads(line) for line in source.read_text().splitlines()]
    for shown in first.predictions():
        row = original[shown["row"]]
        assert shown["columns"] == {"customer": row["customer"], "size": row["size"]}


def test_no_figure_depends_on_batch_size_padding_side_or_order(tmp_path, base_folder, source):
    import pyarrow.parquet as pq

    found = []
    for number, (batch, side) in enumerate([(1, "left"), (5, "right"), (32, "left")]):
        # Folders of their own: nothing is looked up in another.
        run = make_run(
            tmp_path / str(number), base_folder, "none", source=str(source), evaluation={"batch_size": batch}
        )
        save_result(run, base_folder)
        file = run.adapter / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": side}))
        table = pq.read_table(run.split_file("test"))
        order = random.Random(number).sample(range(len(table)), len(table))
        pq.write_table(table.take(order), run.split_file("test"))
        comparison = evaluate_run(run, Request(max_rows=100))
        rows = answers_of(run, comparison)
        losses = {row["row"]: (row["base_loss"], row["adapted_loss"]) for row in rows}
        texts = {row["row"]: (row["base"], row["adapted"]) for row in rows}
        found.append((comparison["adapted"]["perplexity"], losses, texts))
    perplexity, losses, texts = found[0]
    assert len(texts) == 8
    for other_perplexity, other_losses, other_texts in found[1:]:
        assert other_perplexity == pytest.approx(perplexity, rel=1e-6)
        assert other_texts == texts
        for row, values in losses.items():
            assert other_losses[row] == pytest.approx(values, rel=1e-5)


@pytest.mark.parametrize(("given", "answer"), [(3, 4), (30, 6), (5, 40), (0, 33)])
def test_rolling_windows_predict_every_trained_token_once_and_fit(given, answer):
    length = 10
    row = SimpleNamespace(input_ids=list(range(given + answer)), trained=[False] * given + [True] * answer, notes=())
    windows = rolling_windows(row, length)
    assert all(len(window.input_ids) <= length for window in windows)
    # The first token of a text has nothing before it, in a window as in the whole.
    predicted = [
        token
        for window in windows
        for place, (token, on) in enumerate(zip(window.input_ids, window.trained, strict=True))
        if on and place
    ]
    assert predicted == list(range(max(given, 1), given + answer))
    for window in windows:
        assert window.input_ids == list(range(window.input_ids[0], window.input_ids[-1] + 1))
        if len(windows) > 1 and window is not windows[0]:
            assert len(window.input_ids) == length


def test_settings_that_cannot_be_are_refused_before_a_model_is_loaded(runs):
    first, _ = runs
    with pytest.raises(InputError, match="measure"):
        evaluate_run(first, Request(settings={"measures": "blue"}))
    with pytest.raises(InputError, match="No prompt for the base"):
        evaluate_run(first, Request(settings={"prompted": True, "examples": 0}))
    with pytest.raises(InputError, match="JSON schema cannot be read"):
        evaluate_run(first, Request(settings={"schema_file": "/nowhere.json"}))


def test_a_run_without_a_result_cannot_be_compared_with_others(runs, base_folder, source):
    first, _ = runs
    empty = make_run(first.path.parent, base_folder, "none", name="untrained", source=str(source))
    with pytest.raises(FtlabError, match="untrained has no trained model"):
        evaluate_run(first, Request(others=[empty]))


@pytest.mark.parametrize(
    "settings", [{"measures": "exact_match, blue"}, {"pattern": "("}, {"labels": "red, green"}, {"prompted": True}]
)
def test_a_comparison_that_could_not_be_made_is_refused_before_training(tmp_path, base_folder, source, settings):
    workspace = Workspace.open(tmp_path)
    if "labels" in settings:
        settings = settings | {"measures": "accuracy"}
    values = {"model": {"base": str(base_folder)}, "data": {"source": str(source)}, "launcher": {"device": "cpu"}}
    with pytest.raises(InputError):
        supervisor.create(build_config(values | {"evaluation": settings | {"examples": 0}}), workspace)
    assert workspace.runs() == []


def test_the_order_in_which_peft_writes_a_set_is_no_other_model(tmp_path):
    for name, targets in (("one", ["q_proj", "v_proj"]), ("other", ["v_proj", "q_proj"]), ("third", ["v_proj"])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_model.safetensors").write_bytes(b"weights")
        text = json.dumps({"lora_alpha": 32, "target_modules": targets, "rank_pattern": {}}, indent=2, sort_keys=True)
        (tmp_path / name / "adapter_config.json").write_text(text)
    one, other, third = (_trained_identity(tmp_path / name) for name in ("one", "other", "third"))
    assert one == other != third
    assert one[1] == (tmp_path / "one" / "adapter_config.json").read_text()  # as earlier versions kept it
