"""An exported model says what its run's model says, without ftlab; one that does not is never handed over."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from ftlab.api import Run
from ftlab.config import load_config
from ftlab.core.files import read_json, write_json
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data.splits import read_split
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.compare import evaluate_run
from ftlab.export import export as exporting
from ftlab.export import serving
from ftlab.export.export import Exported, export_run, pack, read_shape
from ftlab.export.verify import Outside, summary, verify
from tests.fake_hub import ROOT, TOKEN, FakeHub
from tests.small_runs import make_base, make_run, save_result

PUSH = """
import json, sys
from pathlib import Path
from ftlab.errors import FtlabError
from ftlab.core.run_directory import RunDirectory
from ftlab.core.files import sizes_in
from ftlab.core.run_directory import EXPORT_RECORD
from ftlab.export.export import Exported
from ftlab.export.push import push
run, folder = RunDirectory(Path(sys.argv[1])), Path(sys.argv[2])
record = json.loads((folder / EXPORT_RECORD).read_text())
made = Exported(run.id, "merged", folder, "float32", sizes_in(folder), record, [])
for repository, settings in json.loads(sys.argv[3]):
    try:
        print(json.dumps(push(run, made, repository, **settings).as_dict()))
    except FtlabError as error:
        print(json.dumps(error.message()))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `runs` of a workspace with a tiny base beside it."""
    folder = tmp_path_factory.mktemp("export") / "workspace"
    make_base(folder / "base")
    (folder / "base" / "README.md").write_text("---\nlicense: mit\n---\n# A base\n")
    probes = folder / "probes.jsonl"
    probes.write_text('{"prompt": "What is water?", "completion": "Wet."}\n' * 3)
    (folder / "runs").mkdir()
    return folder / "runs"


@pytest.fixture(scope="module")
def evaluated(runs: Path) -> RunDirectory:
    """A run whose model was evaluated: random weights, so every answer is one that nobody could guess."""
    run = make_run(runs, runs.parent / "base", runs.parent / "probes.jsonl", name="run-*lora*")
    save_result(run, runs.parent / "base")
    evaluate_run(run)
    return run


@pytest.fixture(scope="module")
def merged(evaluated: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_run(evaluated, tmp_path_factory.mktemp("merged") / "model", kind="merged")


def test_a_merged_model_gives_the_answers_that_the_evaluation_recorded(
    evaluated: RunDirectory, merged: Exported, tmp_path: Path
) -> None:
    found = merged.verification
    assert found["same_answers"] == found["same_as_evaluated"] == found["prompts"] == len(evaluated.predictions()) == 6
    assert found["without_ftlab"] and found["largest_logit_difference"] <= found["allowed_logit_difference"] < 1e-3
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= set(merged.files)
    settings = json.loads((merged.folder / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [4] and settings["do_sample"] is False
    with zipfile.ZipFile(pack(merged.folder, tmp_path / "model.zip")) as archive:
        assert {name.split("/", 1)[1] for name in archive.namelist()} == set(merged.files)


def test_no_path_of_this_machine_and_no_row_of_the_data_goes_along(evaluated: RunDirectory, merged: Exported) -> None:
    texts = {
        path.relative_to(merged.folder).as_posix(): path.read_text()
        for path in merged.folder.rglob("*")
        if path.suffix in (".md", ".json", ".yaml", ".jinja") and path.name != "tokenizer.json"
    }
    rows = [row["messages"][0]["content"] for row in read_split(evaluated, "test")]
    for name, text in texts.items():
        assert str(evaluated.path.parent.parent) not in text, name
        assert not any(row in text for row in rows), name


def test_the_card_holds_what_the_hub_reads_and_the_verdict_with_its_intervals(
    evaluated: RunDirectory, merged: Exported
) -> None:
    card = (merged.folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    comparison = evaluated.comparison()
    assert comparison is not None
    assert head["library_name"] == "transformers" and head["license"] == "mit" and head["language"] == "en"
    figures = {one["type"]: one for result in head["model-index"][0]["results"] for one in result["metrics"]}
    low, high = figures["exact_match"]["args"]["interval_95"]
    # Wilson's interval for 0 of 6, by hand: z^2 / (6 + z^2).
    assert low == 0 and high == pytest.approx(1.959964**2 / (6 + 1.959964**2), abs=1e-4)
    assert figures["perplexity"]["value"] == round(comparison["adapted"]["perplexity"], 4)
    assert comparison["verdict"]["text"].split(":")[0] in card
    assert "run-\\*lora\\*" in card and "## What the base knew" in card.replace("###", "##") and "## Limits" in card
    assert "That is few" in card and "6 of 6 held-out prompts" in card


def tampered(made: Exported, folder: Path) -> Path:
    shutil.copytree(made.folder, folder)
    return folder


def test_one_changed_weight_is_caught(evaluated: RunDirectory, merged: Exported, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tampered(merged, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] += 0.01
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FtlabError, match=r"logits at prompt \d of 6 \(row \d+ of the test split.*away from"):
        verify(evaluated, folder, read_shape(folder))


def in_this_process(folder: Path, shape: Any, questions: Any, tell: Any) -> Outside:
    """As `ask_outside`, without the seconds that a process of its own takes."""
    from safetensors.torch import load_file

    from ftlab.export import outside

    place = folder.parent / f"{folder.name}-asked"
    place.mkdir()
    write_json(place / "job.json", shape.job(folder) | {"prompts": questions.job()})
    try:
        outside.main(str(place / "job.json"), str(place))
    finally:
        sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, outside.WithoutFtlab)]
    found, tensors = read_json(place / "found.json"), load_file(place / "logits.safetensors")
    return Outside(found["prompts"], found["stops"], [tensors[str(i)] for i in range(len(found["prompts"]))])


DAMAGES = ("zeroed", "at 0.8", "of another run")


def damage_adapter(folder: Path, how: str, other: Path, strength: float = 1.0) -> None:
    """Put the adapter of `other` in place of the one in `folder`, or scale what that adds to the base."""
    from safetensors.torch import load_file, save_file

    weights = load_file((other if how == "of another run" else folder) / "adapter_model.safetensors")
    factor = {"zeroed": 0.0, "at 0.8": 0.8, "of another run": strength, "as it is": strength}[how]
    scaled = {name: value * (factor if "lora_B" in name else 1) for name, value in weights.items()}
    save_file(scaled, folder / "adapter_model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="module")
def weak(runs: Path) -> tuple[RunDirectory, Path]:
    """A run whose adapter changes little, as preference training does, and the adapter of another run like it."""
    base = runs.parent / "base"
    made = []
    for seed, name in ((1, "weak"), (2, "other-weak")):
        run = make_run(runs, base, runs.parent / "probes.jsonl", name=name)
        save_result(run, base, seed=seed)
        damage_adapter(run.adapter, "as it is", run.adapter, strength=0.005)
        made.append(run)
    evaluate_run(made[0])
    return made[0], made[1].adapter


def asked_of_export(run: RunDirectory, shape: Any, how: str, other: Path, folder: Path) -> dict[str, Any]:
    """What is found of an export of `run` as it would be, had its adapter been damaged on the way."""
    copy = RunDirectory(folder / "runs" / run.id)
    shutil.copytree(run.path, copy.path)
    damage_adapter(copy.adapter, how, other)
    (folder / "export").mkdir(parents=True)
    exporting.write_files(copy, load_config(run.config_file).resolved(), shape, folder / "export", lambda *_: None)
    return verify(run, folder / "export", shape, ask=in_this_process)


@pytest.mark.parametrize(
    "kind",
    ["adapter", "merged float32", "merged bfloat16", pytest.param("merged float16", marks=pytest.mark.long)],
)
@pytest.mark.parametrize("effect", ["strong", "weak"])
def test_an_export_whose_adapter_is_damaged_is_refused(
    evaluated: RunDirectory, weak: tuple[RunDirectory, Path], tmp_path: Path, kind: str, effect: str
) -> None:
    """Zeroed, at 0.8 of its strength, and that of another run; the export as it should be passes, and is proven."""
    run = evaluated if effect == "strong" else weak[0]
    name, _, dtype = kind.partition(" ")
    shape = exporting.plan(run, load_config(run.config_file).resolved(), name, dtype or None)
    sound = asked_of_export(run, shape, "as it is", run.adapter, tmp_path / "sound")
    # Where rounding alone could pass for another adapter, the check says that it proves nothing.
    assert bool(sound["unproven"]) == (sound["rounding"] > 0.5) == ((effect, dtype) == ("weak", "bfloat16"))
    if effect == "strong" or dtype in ("", "float32"):
        assert not sound["unproven"] and sound["carried"]["slope"] == pytest.approx(1, abs=0.03)
    for how in DAMAGES:
        with pytest.raises(FtlabError, match="answers differently from the run's model"):
            asked_of_export(run, shape, how, weak[1], tmp_path / how)


def test_a_merge_of_a_quantised_run_is_told_against_the_quantised_model(runs: Path, tmp_path: Path) -> None:
    """On all rows that were evaluated, and not only on the 20 whose logits are compared."""
    base = runs.parent / "base"
    run = make_run(runs, base, runs.parent / "probes.jsonl", "qlora", name="quantised", evaluation={"max_rows": 24})
    save_result(run, base)
    evaluate_run(run)
    made = export_run(run, tmp_path / "merged", kind="merged")
    found = made.verification["quantised"]
    assert (made.verification["prompts"], found["rows"]) == (20, 24)
    assert made.verification["same_as_evaluated"] <= found["same"] <= made.verification["same_as_evaluated"] + 4
    assert found["before"] == sum(row["adapted_correct"] for row in run.predictions())
    told = f"the merged model gives the same answer to {found['same']} of 24 rows of the test split"
    assert told in summary(made.verification) and told in (made.folder / "README.md").read_text()


def test_another_chat_template_and_a_missing_stop_token_are_caught(
    evaluated: RunDirectory, merged: Exported, tmp_path: Path
) -> None:
    folder = tampered(merged, tmp_path / "template")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("'<|assistant|>'", "'<|assistant|> '"))
    with pytest.raises(FtlabError, match=r"chat template renders prompt 1 of 6 differently \(row \d+ of"):
        verify(evaluated, folder, read_shape(folder))
    folder = tampered(merged, tmp_path / "stops")
    settings = json.loads((folder / "generation_config.json").read_text())
    write_json(folder / "generation_config.json", settings | {"eos_token_id": [7]})
    with pytest.raises(FtlabError, match=r"other stop tokens.*it lacks '<\|end\|>' \(4\)"):
        verify(evaluated, folder, read_shape(folder))


def test_an_answer_that_is_not_the_recorded_one_leaves_the_export_under_another_name(
    evaluated: RunDirectory, tmp_path: Path
) -> None:
    run = RunDirectory(evaluated.path.with_name("run-other"))
    shutil.copytree(evaluated.path, run.path)
    rows = run.predictions()
    rows[2]["adapted"] = "What nobody said."
    run.predictions_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    target = tmp_path / "handed" / "over"
    with pytest.raises(FtlabError, match=r"1 of 6 answers.*prompt 3 \(row \d+\).*What nobody said") as told:
        Run(run, Workspace(run.path.parent.parent)).export(target)
    assert not target.exists() and (tmp_path / "handed" / "over-differs" / "adapter_config.json").exists()
    assert "over-differs" in str(told.value)
    settings = json.loads((tmp_path / "handed" / "over-differs" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "base"  # which lies beside it, and not on this machine alone
    assert (tmp_path / "handed" / "over-differs" / "base" / "model.safetensors").exists()


def test_what_cannot_be_exported_is_said_before_anything_is_written(runs: Path, tmp_path: Path) -> None:
    base, probes = runs.parent / "base", runs.parent / "probes.jsonl"
    for method, words in (("prefix_tuning", "keys and values"), ("prompt_tuning", "tokens"), ("bottleneck", "layers")):
        run = make_run(runs, base, probes, method, name=f"no-merge-{method}")
        with pytest.raises(FtlabError, match="no trained model"):
            export_run(run, tmp_path / "out")
        save_result(run, base)
        with pytest.raises(InputError, match=f"cannot be merged.*{words}.*without --merge"):
            export_run(run, tmp_path / "out", kind="merged")
    lora = make_run(runs, base, probes, name="no-dtype")
    save_result(lora, base)
    with pytest.raises(InputError, match="only for merged and fully tuned models"):
        export_run(lora, tmp_path / "out", dtype="float16")
    with pytest.raises(InputError, match="number format is not supported"):
        export_run(lora, tmp_path / "out", kind="merged", dtype="int4")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="contains other files"):
        export_run(lora, tmp_path / "full")
    assert not (tmp_path / "out").exists() and (tmp_path / "full" / "thesis.txt").read_text() == "mine"


def test_an_export_is_made_anew_when_the_evaluation_is_newer(evaluated: RunDirectory, merged: Exported) -> None:
    kept = evaluated.export_folder("merged")
    shutil.copytree(merged.folder, kept)
    assert exporting.kept_export(evaluated, "merged") == replace(merged, folder=kept)
    assert exporting.kept_export(evaluated, "merged", "bfloat16") is None
    record = read_json(kept / exporting.EXPORT_RECORD)
    write_json(kept / exporting.EXPORT_RECORD, record | {"created": evaluated.comparison_file.stat().st_mtime - 1})
    assert exporting.kept_export(evaluated, "merged") is None
    shutil.rmtree(kept)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    yield hub
    hub.close()


def push(hub: FakeHub, run: RunDirectory, made: Exported, home: Path, cases: list[Any]) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-c", PUSH, str(run.path), str(made.folder), json.dumps(cases)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=hub.environment(home),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert TOKEN not in done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", '"'))]


def test_what_arrives_on_the_hub_is_what_was_shown_and_private(
    hub: FakeHub, evaluated: RunDirectory, merged: Exported, tmp_path: Path
) -> None:
    hub.add("me/open", private=False, files={"README.md": b"mine"})
    earlier = {"ftlab/export.json": b"{}", "adapter_config.json": b"{}", "picture.png": b"mine"}
    hub.add("me/again", files=earlier)
    whole = {"data": "me/tickets-data", "report": True}
    cases = [["me/tickets", whole | {"dry_run": True}], ["me/tickets", whole], ["other/tickets", {"data": "me/more"}]]
    cases += [["me/open", {}], ["me/again", {}]]
    shown, sent, refused, public, _ = push(hub, evaluated, merged, tmp_path / "home", cases)
    model, data = hub.repo("me/tickets"), hub.repo("me/tickets-data", "dataset")
    assert {name: len(content) for name, content in model.files.items()} == shown["files"] == sent["files"]
    assert {name: len(content) for name, content in data.files.items()} == shown["data"]["files"]
    assert model.private and data.private and len(model.commits) == 1 and sent["address"].endswith("/me/tickets")
    assert model.files["model.safetensors"] == (merged.folder / "model.safetensors").read_bytes()
    card = model.files["README.md"].decode()
    assert card == shown["card"] and 'snapshot_download("me/tickets")' in card
    assert yaml.safe_load(card.split("---")[1])["datasets"] == ["me/tickets-data"]
    entries = parse_eval_result_entries(yaml.safe_load(model.files[".eval_results/ftlab.yaml"]))
    figures = {entry.task_id: entry for entry in entries}
    assert {entry.dataset_id for entry in entries} == {"me/tickets-data"}
    assert figures["exact_match"].value == 0 and "95% interval 0 to 0.39" in str(figures["exact_match"].notes)
    assert not (merged.folder / ".eval_results").exists(), "data that are not on the Hub have no figures there"
    assert "does not let you write to other/tickets" in refused and "already exists on the Hub and is public" in public
    assert ("dataset", "me/more") not in hub.repos, "no data were sent for a model that was refused"
    assert hub.repo("me/open").files == {"README.md": b"mine"}
    again = hub.repo("me/again").files
    assert "adapter_config.json" not in again and again["picture.png"] == b"mine" and "config.json" in again
    assert not any(TOKEN.encode() in content for repo in hub.repos.values() for content in repo.files.values())
    assert not any(TOKEN.encode() in file.read_bytes() for file in evaluated.path.rglob("*") if file.is_file())
    assert {one.authorization for one in hub.asked if one.authorization} == {f"Bearer {TOKEN}"}


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Go:
    """As much of Go's templates as an Ollama template here uses: literals, range, if on the role, and .Content."""

    def __init__(self, template: str):
        import re

        self.parts = re.split(r"(\{\{.*?\}\})", template)

    def render(self, messages: list[dict[str, str]]) -> str:
        start = next(i for i, part in enumerate(self.parts) if "range" in part)
        end = max(i for i, part in enumerate(self.parts) if part == "{{- end }}")
        text = self.run(self.parts[:start], None)
        for message in messages:
            text += self.run(self.parts[start + 1 : end], message)
        return text + self.run(self.parts[end + 1 :], None)

    def run(self, parts: list[str], message: dict[str, str] | None) -> str:
        text, on = "", True
        for part in parts:
            inside = part.removeprefix("{{").removesuffix("}}").strip("- ").strip()
            if " if eq .Role" in f" {inside}":
                on = message is not None and inside.endswith(f'"{message["role"]}"')
            elif inside == "end":
                on = True
            elif on and inside == ".Content" and message is not None:
                text += message["content"]
            elif on and inside.startswith('"'):
                text += json.loads(inside)
            else:
                assert not part.strip() or not on, part
        return text


def test_the_template_for_ollama_says_what_the_chat_template_says() -> None:
    from ftlab.models.load import load_tokenizer

    tokenizer = load_tokenizer("starter")
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": 'Say "{{ .System }}"'},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Why?"},
    ]
    for template in (tokenizer.chat_template, CHATML):
        tokenizer.chat_template = template
        turns = serving.take_apart(tokenizer)
        assert turns is not None
        for messages in (conversation, conversation[1:2]):
            expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            assert Go(turns.go_template()).render(messages) == expected
    # One that adds a system prompt of its own where there is none cannot be said so.
    tokenizer.chat_template = "{% if messages[0]['role'] != 'system' %}You are kind.{% endif %}" + CHATML
    assert serving.take_apart(tokenizer) is None


def test_a_template_with_room_for_thoughts_leaves_it_out_unless_asked(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from ftlab.data.rendering import encode_prompt
    from ftlab.export.files import copy_tokenizer
    from ftlab.models.load import load_tokenizer

    tokenizer = load_tokenizer("starter")
    quiet = "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    tokenizer.chat_template = f"{CHATML}{{% if add_generation_prompt %}}{quiet}{{% endif %}}"  # as Qwen3's
    tokenizer.save_pretrained(tmp_path / "run")
    (tmp_path / "export").mkdir()
    copy_tokenizer(tmp_path / "run", tmp_path / "export")
    handed = AutoTokenizer.from_pretrained(tmp_path / "export")
    asked = [{"role": "user", "content": "Why?"}]
    trained = encode_prompt([*asked, {"role": "assistant", "content": ""}], tokenizer)
    assert handed.apply_chat_template(asked, add_generation_prompt=True)["input_ids"] == trained
    thinking = handed.apply_chat_template(asked, add_generation_prompt=True, tokenize=False, enable_thinking=True)
    assert "think" in tokenizer.decode(trained) and "think" not in thinking


def test_the_card_tells_a_blind_vote_once_it_may_be_seen(evaluated: RunDirectory) -> None:
    from ftlab.arena import asking, blind_tests, links, trials
    from ftlab.arena.store import open_store
    from ftlab.export.card import _blind_votes

    assert _blind_votes(evaluated) == []
    store = open_store(Workspace(evaluated.path.parent.parent))
    asked = [asking.PromptSpec([{"role": "user", "content": f"Question {n}"}]) for n in range(3)]
    among = [
        asking.ContestantSpec("Base", {"kind": "base", "base": "starter"}),
        asking.ContestantSpec("<b>Tuned</b>", {"kind": "run", "run": evaluated.id}),
    ]
    how = asking.TestSettings({"max_new_tokens": 16, "temperature": 0.0})
    test_id = blind_tests.create_test(store, "A test", among, asked, how, 3)
    blind_tests.start_generating(store, test_id)
    for prompt in blind_tests.list_prompts(store, test_id):
        for contestant in blind_tests.list_contestants(store, test_id):
            blind_tests.save_answer(store, prompt.id, contestant.id, f"{prompt.number} by {contestant.position}")
    blind_tests.mark_ready(store, test_id)
    blind_tests.open_test(store, test_id)
    (rater,) = links.create_raters(store, test_id, ["Ana"])
    for _ in range(3):
        assert _blind_votes(evaluated) == []
        trial = trials.next_trial(store, rater.rater_id)
        assert trial is not None
        trials.vote(store, rater.rater_id, trial.id, "left")
    _, _, said = _blind_votes(evaluated)
    assert said.startswith("- This model is “\\<b\\>Tuned\\</b\\>”.") and "votes: 3, raters: 1, prompts: 3" in said
