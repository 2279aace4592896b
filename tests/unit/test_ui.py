"""What the tabs show, without a browser: text stays text, numbers have units, empty states say what to do."""

from __future__ import annotations

import inspect
import json
import math
import re
import time

import psutil
import pytest

pytest.importorskip("gradio")

from ftlab.arena import answers as answering
from ftlab.cli.train import quickstart_config
from ftlab.config import DataConfig, RunConfig, build_config
from ftlab.core.files import append_jsonl, write_json, write_text
from ftlab.core.jobs import write_status
from ftlab.data.formats import _ROLE_ALIASES
from ftlab.errors import FtlabError, InputError
from ftlab.report import charts
from ftlab.training.status import RunStatus
from ftlab.ui import app, job_strip, run_files, run_names
from ftlab.ui.kit import events, forms, html
from ftlab.ui.run_view import run as run_view
from ftlab.ui.tabs.chat import tab as chat
from ftlab.ui.tabs.data import checks_view
from ftlab.ui.tabs.data import rows as data_rows
from ftlab.ui.tabs.data import sources as data_sources
from ftlab.ui.tabs.data import tab as data
from ftlab.ui.tabs.preferences import tab as preferences
from ftlab.ui.tabs.runs import tab as runs
from ftlab.ui.tabs.train import tab as train

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>{{value}}${value}"


def a_run(workspace, label="toy", state="completed", **settings):
    run = workspace.create_run(label)
    write_text(run.config_file, build_config(settings).resolved().to_yaml())
    status = RunStatus(state=state, created=1.7e9, started=1.7e9, finished=1.7e9 + 75, step=20, total_steps=20)
    write_status(run.status_file, status)
    for step in (5, 10, 15, 20):
        append_jsonl(run.metrics_file, {"step": step, "loss": 8 / step, "learning_rate": 1e-3})
    append_jsonl(run.metrics_file, {"step": 20, "eval_loss": 0.5})
    return run


def test_text_of_data_and_models_is_never_markup():
    turn = {"user": ATTACK, "base": ATTACK, "adapted": ATTACK, "note": ATTACK}
    shown = [
        chat.conversation([turn]),
        html.table([ATTACK], [[ATTACK]], label=ATTACK),
        html.error_box(InputError(ATTACK, given=ATTACK, allowed=ATTACK, try_=ATTACK)),
        html.pick_button(ATTACK, ATTACK, label=ATTACK),
        charts.plot([charts.Series(ATTACK, [(0, 1), (1, 2)])], title=ATTACK, unit=ATTACK),
    ]
    for text in shown:
        assert "<script" not in text and "<img" not in text
        assert "&lt;script&gt;alert(1)" in text


def test_every_setting_of_a_run_can_be_reached_in_the_app(workspace):
    import gradio as gr

    with gr.Blocks():
        both = [train.build(workspace).form.components, preferences.build(workspace).form.components]
        drawn = {**data.build(workspace).form.components, **both[0]}
    # Either tab starts runs of its own stages, with every setting that they read.
    assert set(drawn) | set(both[1]) == set(forms.fields())
    assert set(both[1]) == {path for path in forms.fields() if not path.startswith("data.")}
    # Chosen part by part, with a dropdown for each that data/formats.py knows.
    assert isinstance(drawn.pop("data.columns"), gr.State)
    assert set(data_rows.PARTS) == set(_ROLE_ALIASES.values())
    every = [*drawn.items(), *both[1].items()]
    ids = [component.elem_id for _, component in every]
    assert len(ids) == len(set(ids))
    for path, component in every:
        assert component.label.startswith(forms.fields()[path].title)
        assert component.info


def test_the_stage_follows_the_data_on_show(workspace, rows_file, tmp_path):
    text = tmp_path / "book.txt"
    text.write_text("\n\n".join(f"Chapter {n} of the book." for n in range(40)))
    for source, suits, said in [
        (text, "pretraining", "32 documents to learn from, 4 documents to check, 4 documents to test"),
        (rows_file, "sft", "to learn from"),
    ]:
        shown = DataConfig(source=str(source)).model_dump_json()
        assert train.stage_of(shown, workspace) == suits
        assert said in str(train.data_line(shown, workspace))
    assert train.stage_of(None, workspace) is None


def test_the_untouched_form_is_the_main_job(workspace):
    import gradio as gr

    with gr.Blocks():
        card = train.build(workspace)
        both = [data.build(workspace).form, card.form]
    shown = [form.collect([component.value for component in form.inputs]) for form in both]
    expected = quickstart_config()
    expected.name = RunConfig().name
    assert build_config(forms.merge(shown)) == expected
    # What the card says it does is what this run will do.
    usual = build_config(forms.merge(shown)).resolved().optimisation
    assert f"{usual.epochs:g} epochs, learning rate {usual.learning_rate:g}, rank 16" in card.settings.value


def test_what_is_emptied_is_none_where_that_is_allowed_and_the_default_elsewhere(workspace):
    import gradio as gr

    with gr.Blocks():
        form = train.build(workspace).form
    config = build_config(form.collect(["" for _ in form.inputs]))
    assert config.evaluation.probes is None and config.data.replay is None and config.optimisation.epochs is None
    assert config.resolved().optimisation.batch_size == 16 and config.model.base == "starter"


def test_a_run_started_again_has_the_settings_of_the_first(workspace):
    import gradio as gr

    first = build_config(
        {
            "name": "x",
            "data": {"columns": {"prompt": "question"}, "replay": "general_replay"},
            "optimisation": {"learning_rate": 1e-4, "max_steps": 7},
            "evaluation": {"after_training": False},
            "trainer": {"neftune_noise_alpha": 5},
        }
    )
    with gr.Blocks():
        both = [data.build(workspace).form, train.build(workspace).form]
        values = []
        for form in both:
            updates = form.fill(first)
            values.append(form.collect([updates[component] for component in form.inputs]))
    assert build_config(forms.merge(values)) == first


@pytest.mark.parametrize(
    ("path", "typed", "said"),
    [
        ("optimisation.learning_rate", "5", "at most 0.1"),
        ("optimisation.learning_rate", "fast", "a number"),
        ("optimisation.batch_size", "2.5", "a whole number"),
        ("optimisation.epochs", "-1", "above 0"),
        ("trainer", "- a list", "name: value"),
        ("data.columns", "{", "not valid YAML"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(workspace, path, typed, said):
    import gradio as gr

    with gr.Blocks():
        form = forms.Form()
        form.draw(path)
    with pytest.raises(InputError) as raised:
        build_config(form.collect([typed]))
    assert said in str(raised.value)
    assert forms.fields()[path].title in str(raised.value)


def test_an_unexpected_failure_of_a_handler_is_one_sentence_and_a_traceback_in_the_log(caplog):
    box = object()

    def broken():
        raise ZeroDivisionError("division by zero")

    answer = events.guarded(broken, box)()
    assert list(answer) == [box]
    assert "Something went wrong inside ftlab" in answer[box] and "Traceback" not in answer[box]
    assert "ZeroDivisionError: division by zero" in caplog.text


def test_an_expected_failure_stays_beside_its_button_until_the_next_press():
    box = object()
    wanted = [FtlabError("No space is left", why="The disk is full.", try_="delete a run"), None]

    def handler():
        if error := wanted.pop(0):
            raise error

    call = events.guarded(handler, box)
    first = call()[box]
    assert all(text in first for text in ("No space is left", "The disk is full.", "delete a run", 'role="alert"'))
    assert call() == {box: ""}


def test_a_stream_that_fails_says_so_after_what_it_has_shown():
    box, log = object(), object()

    def stream():
        yield {log: "half"}
        raise InputError("Too long")

    shown = list(events.guarded(stream, box)())
    assert shown[0] == {log: "half", box: ""}
    assert "Too long" in shown[1][box]


def test_an_upload_keeps_its_name_is_kept_once_and_stays_in_its_folder(workspace, tmp_path):
    upload = tmp_path / "..my données (final)!.JSONL"
    upload.write_text('{"prompt": "a", "completion": "b"}\n')
    kept = data_sources.keep_upload(upload, workspace)
    assert kept.parent.parent == workspace.uploads
    assert kept.read_text() == upload.read_text()
    assert kept.name == "my données (final).jsonl"
    assert data_sources.keep_upload(upload, workspace) == kept
    assert data_sources.source_choices(workspace)[-1] == ("Upload: my données (final).jsonl", str(kept))


def test_two_uploads_of_one_name_are_told_apart_by_when_they_came(workspace, tmp_path):
    for text in ("a", "b"):
        (tmp_path / "desk.csv").write_text(f"q,a\n{text},b\n")
        data_sources.keep_upload(tmp_path / "desk.csv", workspace)
    titles = [title for title, _ in data_sources.source_choices(workspace) if title.startswith("Upload: ")]
    assert len(titles) == 2 and all(title.startswith("Upload: desk.csv (") for title in titles)


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("support_triage", "Support triage"),
        ("version:hotel-desk-export-46c9f72a-2-3df5f4", "Hotel desk export, version 2"),
        ("version:support-triage-3-3df5f4", "Support triage, version 3"),
        ("/home/me/uploads/46c9f72a/hotel desk.csv", "hotel desk.csv"),
        ("/home/me/uploads/hotel-desk-46c9f72a.csv", "hotel-desk.csv"),
    ],
)
def test_data_are_called_by_their_name_without_what_ftlab_added(source, title):
    assert run_names.source_title(source) == title


def test_a_file_of_another_kind_is_refused_with_the_kinds_allowed(workspace, tmp_path):
    upload = tmp_path / "model.pkl"
    upload.write_bytes(b"\x80")
    with pytest.raises(InputError, match=r"\.jsonl, .*\.csv, .*\.parquet, .*\.zip"):
        data_sources.keep_upload(upload, workspace)


def test_the_strip_says_step_loss_speed_and_time_left_with_their_units(workspace):
    run = a_run(workspace, state="running")
    status = RunStatus(
        state="running", phase="training", step=12, total_steps=190, eta_seconds=95, tokens_per_second=1234.5
    )
    text = job_strip.show(run_files.Job(run, "training", status, 2), run_files.metrics(run))
    name = run_names.name_of(run, dated=False)
    for words in ("step 2 of 4", "update 12 of 190", "0.4", "1,234 tokens/s", "1 min 35 s", "2 more waiting", name):
        assert words in text
    assert 'aria-valuenow="6"' in text  # 12 / 190 = 6.3%
    assert job_strip.show(None, []) == ""


def test_the_strip_says_that_answers_of_a_blind_test_are_being_made_as_long_as_their_process_lives(workspace):
    me = psutil.Process()
    at_work = {"state": "running", "phase": "answers of Base", "pid": me.pid, "pid_started": me.create_time()}
    for test_id, values in (("alive", at_work), ("gone", at_work | {"pid_started": 1.0}), ("over", {"state": "done"})):
        folder = workspace.answers_folder(test_id)
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(json.dumps(values))
    text = job_strip.show_now(None, workspace)
    assert "answers of Base" in text and "alive" in text
    assert "gone" not in text and "over" not in text
    failed = answering.status(workspace, "gone")
    assert failed.state == "failed" and "existing answers are kept" in failed.error["try"]


def test_the_second_press_of_stop_says_on_the_button_that_it_kills(workspace):
    run = a_run(workspace, state="running")
    running = run_files.Job(run, "training", RunStatus(state="running"), 0)
    stopping = run_files.Job(run, "training", RunStatus(state="stopping"), 0)
    assert job_strip.stop_button(running)["value"] == "Stop training"
    assert "Kill" in job_strip.stop_button(stopping)["value"]
    # It is said by what follows the job, so that it is gone once the job has stopped.
    assert "with what is trained saved; press again to kill it" in job_strip.show(stopping, [])
    assert "press again" not in job_strip.show(running, [])
    late = RunStatus(state="stopping", phase="training", step=1, total_steps=9, eta_seconds=95)
    assert "left" not in job_strip.show(run_files.Job(run, "training", late, 0), [])
    assert job_strip.stop_button(None)["visible"] is False


def test_a_failed_run_shows_what_why_and_what_to_try(workspace):
    run = a_run(workspace, state="failed")
    error = {"what": "Memory ran out", "why": "The batch is too large.", "try": "a smaller batch size"}
    write_status(run.status_file, RunStatus(state="failed", error=error))
    shown = run_view.live(run)
    assert all(text in shown for text in error.values())


def test_curves_hold_every_loss_and_leave_out_what_is_not_finite():
    rows = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": 1.0}, {"loss": 3}]
    assert charts.metric_points(rows, "loss") == [(1, 2.0), (3, 1.0)]
    picture = charts.run_curves(rows, total_steps=4)
    # Step 1 of 4 at 2.0 on an axis from 0 to 2 is a quarter across and at the top; 1.0 is half way down.
    assert 'points="250.0,0.0 750.0,500.0"' in picture
    assert "training from 2 to 1 at step 3" in picture


def test_a_long_curve_is_thinned_and_keeps_its_last_point():
    points = [(step, 1.0) for step in range(10_000)]
    thinned = charts._thinned(points)
    assert len(thinned) <= 401 and thinned[-1] == (9999, 1.0)


def test_comparing_two_runs_names_the_settings_that_differ_and_no_others(workspace):
    first = a_run(workspace, "one", optimisation={"epochs": 2})
    second = a_run(workspace, "two", optimisation={"epochs": 2, "learning_rate": 1e-4})
    differing = runs.differences(run_files.config(first), run_files.config(second))
    assert [row[0] for row in differing] == ["Learning rate (optimisation.learning_rate)"]
    shown = runs.compared(first, second)
    assert first.id in shown and second.id in shown and "0.0001" in shown


def test_comparing_two_runs_shows_every_measure_of_either_as_it_is_written_elsewhere(workspace):
    def measure(name, title, kind, base, adapted):
        values = {"base": base, "adapted": adapted}
        return {"name": name, "title": title, "kind": kind, "unit": "", "values": values}

    first, second = a_run(workspace, "one"), a_run(workspace, "two")
    write_json(first.comparison_file, {"measures": [measure("exact_match", "Exact match", "share", 0.0, 0.955)]})
    write_json(second.comparison_file, {"measures": [measure("perplexity", "Perplexity", "loss", 12.34, 1.046)]})
    shown = runs.compared(first, second)
    assert "0% → 95.5%" in shown and "12.3 → 1.05" in shown


def test_a_run_has_a_name_made_of_data_method_base_and_day_which_a_person_can_change(workspace, monkeypatch):
    run = a_run(workspace, model={"base": "smollm2"})
    noon = time.mktime((2026, 11, 29, 12, 0, 0, 0, 0, -1))
    monkeypatch.setattr(time, "localtime", lambda seconds=noon, real=time.localtime: real(seconds))
    write_status(run.status_file, RunStatus(state="completed", created=noon - 50_000, started=noon - 3600))
    assert run_names.name_of(run) == "Support triage, LoRA on SmolLM2, today 11:00"
    write_status(run.status_file, RunStatus(state="completed", created=noon - 50_000, started=noon - 86_400))
    assert run_names.name_of(run) == "Support triage, LoRA on SmolLM2, yesterday 12:00"
    before = sorted(path.name for path in run.path.iterdir())
    assert run_names.rename(run, "  Hotel   desk ") == run_names.name_of(run) == "Hotel desk"
    assert run.path.name == run.id and sorted(path.name for path in run.path.iterdir() if path.name in before) == before
    assert run_names.choices([run]) == [("Hotel desk", run.id)]
    assert run_names.rename(run, "") == "Support triage, LoRA on SmolLM2"
    # The box in which it is typed holds no day: left as it is, it would be a wrong one tomorrow.
    assert run_names.rename(run, "Support triage, LoRA on SmolLM2") and run_files.given_name(run) == ""
    assert run_names.name_of(run) == "Support triage, LoRA on SmolLM2, yesterday 12:00"
    with pytest.raises(InputError, match="too long"):
        run_names.rename(run, "x" * 81)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("support_triage", "Support triage"),
        ("/tmp/up/guest_desk-0c46770a.csv", "Guest desk"),
        ("version:items-3-0c4677", "Items version 3"),
        ("someone/red-teaming", "Red teaming"),
    ],
)
def test_data_are_called_as_their_owner_calls_them(source, name):
    assert run_names.data_name(RunConfig(data=DataConfig(source=source))) == name


def test_runs_of_the_same_name_are_told_apart_in_a_list(workspace):
    def begun(label, second, **settings):
        run = a_run(workspace, label, **settings)
        began = time.mktime((2024, 11, 29, 12, 0, second, 0, 0, -1))
        write_status(run.status_file, RunStatus(state="completed", created=began, started=began))
        return run

    usual = "Support triage, LoRA on the starter"
    rank = {"method": {"rank": 32}, "optimisation": {"epochs": 4, "seed": 7}}
    first, second = begun("one", 1), begun("two", 1)
    named = run_names.told_apart([first, second])
    assert named[0].startswith(f"{usual}, one-") and ", two-" in named[1]
    # In one minute, and never in a setting: the second tells.
    later = begun("three", 2)
    named = run_names.told_apart([first, later])
    assert [name.split()[-1] for name in named] == ["12:00:01", "12:00:02"]
    # What was set differently says more than a time.
    other = begun("four", 1, **rank)
    for dated, end in ((True, ", 29 Nov 2024 12:00"), (False, "")):
        named = run_names.told_apart([first, other], dated=dated)
        assert named[1] == f"{usual}, epochs 4, LoRA rank 32{end}" and "LoRA rank 16" in named[0]
    assert run_names.told_apart([first, later], dated=False)[0].endswith("12:00:01")
    for run in (first, other):
        run_names.rename(run, "Mine")
    assert [name for name, _ in run_names.choices([first, other])] == [
        "Mine, epochs 6, LoRA rank 16",
        "Mine, epochs 4, LoRA rank 32",
    ]
    assert len(set(run_names.told_apart([first, second, later, other]))) == 4


def test_a_name_that_a_person_gave_is_text_and_never_markup(workspace):
    run, other = a_run(workspace), a_run(workspace, "child")
    write_text(other.config_file, build_config({"model": {"start": run.id}}).resolved().to_yaml())
    for one in (run, other):
        run_names.rename(one, "<script>alert(1)</script>")
    every = [run, other]
    for shown in (runs.runs_table(every, run.id), runs.lineage_tree(every, run.id), runs.compared(run, other)):
        assert "<script" not in shown and "&lt;script&gt;alert(1)" in shown


def test_each_side_of_a_chat_remembers_its_own_answers():
    turns = [{"user": "hi", "base": "hello", "adapted": "HELLO", "note": ""}]
    assert chat.history(turns)["base"][1] == {"role": "assistant", "content": "hello"}
    assert chat.history(turns)["adapted"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "HELLO"},
    ]


def test_at_another_strength_a_conversation_starts_afresh():
    turns = [{"user": "a"}, {"user": "b", "strength": 0.5}, {"user": "c", "strength": 0.5}]
    assert [turn["user"] for turn in chat.same_strength(turns, 0.5)] == ["b", "c"]
    assert chat.same_strength(turns, 1.0) == [] and chat.same_strength([], 0.5) == []


def test_files_are_read_again_only_when_they_change(workspace):
    run = a_run(workspace)
    first = run_files.metrics(run)
    assert run_files.metrics(run) is first
    append_jsonl(run.metrics_file, {"step": 25, "loss": 0.1})
    assert run_files.metrics(run)[-1] == {"step": 25, "loss": 0.1}


def test_the_state_of_the_workspace_changes_with_a_run_its_state_and_its_scores(workspace):
    seen = [run_files.fingerprint(workspace)]
    run = a_run(workspace, state="completed")
    seen.append(run_files.fingerprint(workspace))
    write_status(run.status_file, RunStatus(state="failed", error={"what": "x"}))
    seen.append(run_files.fingerprint(workspace))
    write_text(run.comparison_file, json.dumps({"verdict": {}}))
    seen.append(run_files.fingerprint(workspace))
    assert len(set(seen)) == 4


def test_a_duration_that_nobody_knows_is_a_dash():
    assert html.duration(None) == "–"


def test_each_message_of_a_stream_says_everything_but_what_a_person_may_have_typed_since():
    import gradio as gr

    with gr.Blocks():
        send, log, text, state, box = gr.Button(), gr.HTML(), gr.Textbox(), gr.State(), gr.HTML()

    def handler():
        yield {send: gr.update(visible=False), log: "one", text: gr.update(value="", lines=3), state: 1}
        yield {log: "two", send: gr.update(interactive=False)}
        raise InputError("It broke")

    first, second, last = events.guarded(handler, box)()
    assert first == {
        send: {"__type__": "update", "visible": False},
        log: "one",
        text: {"__type__": "update", "value": "", "lines": 3},
        state: 1,
        box: "",
    }
    assert second == {
        send: {"__type__": "update", "visible": False, "interactive": False},
        log: "two",
        text: {"__type__": "update", "lines": 3},
        box: "",
    }
    assert "It broke" in last.pop(box)
    assert last == {one: update for one, update in second.items() if one != box}


def test_what_is_no_path_may_begin_like_one_where_others_reach_the_app(workspace, tmp_path):
    from ftlab.core.files import limited_to
    from ftlab.ui.app import build_app

    texts = {"chat_text", "chat_system", "data_search", "evaluate_search", "after_search", "data_curate_search"}
    texts |= {"data_curate_note", "data_curate_reason", "data_curate_why", "data_versions_why", "blind_title_1"}
    texts |= {f"{form}_evaluation_{name}" for form in ("set", "pref") for name in ("system_prompt", "pattern")}
    boxes = {getattr(one, "elem_id", None): one for one in build_app(workspace).blocks.values()}
    assert texts <= set(boxes)
    assert not [name for name in texts if events._is_line(boxes[name])]
    paths = ("set_data_source", "set_model_base", "set_evaluation_own_metrics", "set_name", "judge_url", "runs_run")
    assert all(events._is_line(boxes[name]) for name in paths)
    with limited_to([workspace.root]):
        build_config({"evaluation": {"system_prompt": "/no_think", "pattern": "/x/"}, "method": {"initial_text": "~"}})


WRONG = [True, 5, 2.5, "nobody", "", [1], {"a": 1}, [], 10**400, math.nan, "\0", {"data": [{"x": None}]}, "x" * 5000]


def test_every_endpoint_answers_a_value_of_a_wrong_type_with_one_sentence(tmp_path):
    """Each argument of each endpoint in turn; what fits its type (a run of this name) fails as it does with a run."""
    import gradio as gr

    from ftlab.core.workspace import Workspace
    from ftlab.ui.programs import offer

    workspace = Workspace.open(tmp_path / "workspace")
    with gr.Blocks() as blocks:
        offer(workspace)
    endpoints = {one.api_name: one.fn for one in blocks.fns.values()}
    assert len(endpoints) == 7
    for name, endpoint in endpoints.items():
        takes = inspect.signature(endpoint).parameters
        usual = {key: "nobody" if one.default is one.empty else one.default for key, one in takes.items()}
        for key in takes:
            for value in WRONG:
                with pytest.raises(gr.Error) as caught:
                    endpoint(**usual | {key: value})
                said = str(caught.value.message)
                assert len(said) < 700 and "\n" not in said and "went wrong" not in said, (name, key, value, said)
    with pytest.raises(gr.Error, match="file name is too long"):
        endpoints["train"](config={"model": {"base": "x" * 5000}})
    assert workspace.runs() == []


def test_a_run_says_at_which_step_it_is_and_what_is_left_in_total(workspace):
    run = a_run(workspace, state="running")

    def at(phase, **more):
        return run_view.at_step(run, RunStatus(state="running", phase=phase, **more))

    assert at("loading the libraries") == (1, 4, "Asking the base")
    assert at("before training: answers of the base", done=3, total=9) == (1, 4, "Asking the base")
    assert at("preparing the examples") == (2, 4, "Training")
    training = RunStatus(state="running", phase="training", step=5, total_steps=20, eta_seconds=60)
    assert run_view.at_step(run, training) == (2, 4, "Training")
    assert at("verifying the result", step=20, total_steps=20) == (3, 4, "Saving")
    assert "of training left, then the evaluation" in run_view.left_in_total(run, training)
    write_json(run.expected_file, {"after_seconds": 30.0, "total_seconds": 200.0})
    assert run_view.left_in_total(run, training) == f"about {html.duration(90)} left in total"
    slow = RunStatus(state="running", phase="loading the libraries", started=time.time() - 190)
    assert run_view.left_in_total(run, slow) == f"about {html.duration(10)} left in total, as measured before the start"
    # What comes after a slow beginning takes as long as ever.
    write_json(run.expected_file, {"before_seconds": 20.0, "after_seconds": 30.0, "total_seconds": 200.0})
    expected = f"about {html.duration(180)} left in total, as measured before the start"
    assert run_view.left_in_total(run, slow) == expected
    # Nor does a first step that takes long, as it has no rate yet.
    first = RunStatus(state="running", phase="training", step=1, total_steps=20, started=time.time() - 100)
    assert run_view.left_in_total(run, first) == expected
    # After training only the evaluation is left, however quick training was.
    append_jsonl(run.metrics_file, {"step": 20, "loss": 0.4, "time": time.time() - 12})
    ended = RunStatus(state="running", phase="answers", step=20, total_steps=20, started=time.time() - 20)
    expected = f"about {html.duration(18)} left in total, as measured before the start"
    assert run_view.left_in_total(run, ended) == expected
    assert run_view.on_to_evaluate(run) == "Evaluate it"
    write_json(run.verification_file, {"changes_logits": True})
    assert at("answers of the adapted model", step=20, total_steps=20) == (4, 4, "Evaluating")
    assert run_view.at_step(run, RunStatus(state="queued")) is None
    bare = a_run(workspace, evaluation={"after_training": False})
    assert run_view.at_step(bare, training) == (1, 2, "Training")
    assert run_view.left_in_total(bare, training) == f"about {html.duration(60)} left in total"


def test_held_out_rows_show_what_the_base_and_the_run_say_and_never_as_markup():
    rows = [
        {"step": step, "row": row, "prompt": f"Question {row} {ATTACK}", "answer": f"{step} {ATTACK}", "reference": "A"}
        for step in (0, 8, 16)
        for row in range(3)
    ]
    shown = run_view.answers_now(rows)
    assert "<script" not in shown and "<img" not in shown
    assert shown.count("Question") == 3 and "Step 16" in shown and ">8 " not in shown
    assert "not trained yet" in run_view.answers_now(rows[:3])
    assert run_view.answers_now([]) == ""


def test_what_is_mixed_in_unasked_is_said_with_the_rows(workspace, rows_file):
    shown = DataConfig(source=str(rows_file)).model_dump_json()
    usual = {"data.replay": "general_replay", "data.replay_text": "general_documents", "model.base": "starter"}
    said = train.data_line(shown, workspace, usual)
    assert "general examples and about" in said and "general documents" in said and "general_" not in said
    said = train.data_line(shown, workspace, {"model.base": "smollm2", "data.replay": "auto", "stage": "sft"})
    assert "of the base&#39;s own answers" in said
    assert "forgetting" not in train.data_line(shown, workspace, {"data.replay": "", "data.replay_text": ""})


def test_the_base_of_the_latest_run_is_known(workspace):
    assert train.latest_base(workspace) is None
    a_run(workspace, "older", model={"base": "smollm2"})
    assert train.latest_base(workspace) == "smollm2"


def test_the_paths_that_are_checked_are_those_of_the_inputs_wherever_the_event_stands():
    import gradio as gr

    def first(event: gr.EventData, text: str, path: str) -> None: ...
    def between(text: str, event: gr.EventData, request: gr.Request, path: str) -> None: ...
    def rest(request: gr.Request, *values: str) -> None: ...

    assert events._places(first, [0, 1]) == [1, 2]
    assert events._places(between, [0, 1]) == [0, 3]
    assert events._places(rest, [2]) == [3]


def test_the_way_ticks_data_only_once_they_can_be_trained_on_and_marks_what_their_checks_found(
    workspace, rows_file, tmp_path
):
    a_run(workspace)
    assert app.next_step(workspace) == "train" and app.next_step(workspace, usable=False) == "data"
    ticked, marked = app.way("train"), app.way("train", 4)
    assert ticked.count("(done)") == 1 and "(done)" not in marked and "Data<span" in marked
    assert "4 things to look at" in marked and "look at" not in ticked
    few = tmp_path / "few.jsonl"
    few.write_text('{"prompt": "q", "completion": "a"}\n')
    for source, usable in ((rows_file, True), (few, False), (tmp_path / "gone.csv", False)):
        assert data.can_train(DataConfig(source=str(source)).model_dump_json(), workspace) is usable
    assert not data.can_train(None, workspace)
    report = {"findings": [{"severity": name} for name in ("error", "warning", "note")], "advice": []}
    assert checks_view.serious_in("a check", workspace) == checks_view.serious_in(None, workspace) == 0
    write_json(workspace.checks_folder / "a check" / "report.json", report)
    assert checks_view.serious_in("a check", workspace) == 2


def test_of_many_runs_the_newest_are_listed_and_those_in_use_and_all_on_request(monkeypatch, workspace):
    monkeypatch.setattr("ftlab.ui.tabs.runs.listing._MOST", 3)
    made = [workspace.create_run(f"number {n}") for n in range(6)]
    for place, run in enumerate(made):
        (run.path / "config.yaml").write_text(f"name: run {place}\ndata: {{source: support_triage}}\n")
    every = workspace.runs()
    ids = re.findall(r'data-tick="([^"]+)"', runs.runs_table(every, every[5].id))
    assert ids == [every[n].id for n in (0, 1, 2, 5)] and "Show all 6 runs" in runs.runs_table(every, None)
    whole = runs.runs_table(every, None, whole=True)
    assert whole.count("data-tick") == 6 and "Show all" not in whole
