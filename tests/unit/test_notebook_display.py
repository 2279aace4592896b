"""How results look in Jupyter, what a repeated run is compared with, and how runs are taken up again."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import sys
import time
import types

import pytest
from markupsafe import escape

import ftlab
from ftlab.api.display import Answers, BeforeAfter, Comparison
from ftlab.config import build_config
from ftlab.core.files import locked, write_json
from ftlab.errors import FtlabError, InputError
from ftlab.report.charts import panels, runs_chart
from ftlab.report.notebook import compare_figures, notebook_of, same_data, same_versions
from ftlab.training import supervisor
from ftlab.ui import notebook
from tests.comparisons import evaluated_run, three_sides

EVIL = '<script>alert("x")</script>'


def plain(html: str) -> str:
    return re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)


def test_text_of_data_and_models_is_never_markup_in_a_notebook(tmp_path, workspace):
    rows = tmp_path / "rows.jsonl"
    said = [EVIL, EVIL, *(f"There are {n} doors in this old house." for n in range(60))]
    lines = [{"prompt": f"How many? {n} {text}", "completion": text} for n, text in enumerate(said)]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    seen = notebook.inspection_html(ftlab.inspect(str(rows)))
    checked = notebook.report_html(ftlab.check(str(rows), base=None))
    read = ftlab.as_read(str(rows), 0, workspace=workspace.root)._repr_html_()
    said = Answers(EVIL, EVIL, EVIL)._repr_html_()
    turns = [{"role": "user", "content": EVIL}]
    figures = dict.fromkeys(("words", "tokens", "cut_share", "repetition", "distinct_2"), 0.5)
    found = {"rows": 1, "contestants": {"adapted": figures}, "win_rates": {}}
    after = BeforeAfter(found, [{"prompt": turns, "adapted": {"answer": EVIL}}])._repr_html_()
    framed = notebook.page_html(EVIL, 100)
    for html in (seen, checked, read, said, after, framed):
        assert "<script" not in plain(html)
        assert "&lt;script&gt;" in plain(html)


def test_the_style_of_a_result_holds_within_it_alone():
    style = re.search(r"<style>(.*?)</style>", notebook.framed(""), re.DOTALL).group(1)
    assert style.startswith(".ft-nb {") and style.count("{") == style.count("}")
    depth = 1
    for letter in style[len(".ft-nb {") : -1]:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 1, "a rule stands outside of .ft-nb"
    assert ":root" not in style and "@keyframes" not in style


def test_a_comparison_shows_its_verdict_and_gives_its_figures(workspace):
    run = evaluated_run(workspace)
    comparison = ftlab.Run.find(run.id, workspace.root).comparison()
    assert escape(comparison.verdict) in comparison._repr_html_()
    measure = comparison["measures"][0]
    assert comparison.value(measure["name"]) == measure["values"]["adapted"]
    with pytest.raises(InputError, match="The comparison does not have this value"):
        comparison.value("beauty")


def test_runs_are_drawn_beside_their_base_with_their_intervals():
    comparison = Comparison(three_sides())
    name = comparison["measures"][0]["name"]
    drawn = panels([(EVIL, comparison), ("two", comparison)], [name, "unknown"])
    assert [[dot.title for dot in panel.dots] for panel in drawn] == [["base", EVIL, "two"]]
    picture = runs_chart(drawn)
    assert picture.count("<circle") == 3 and EVIL not in picture
    assert runs_chart([]) == ""


def test_runs_that_were_asked_different_rows_are_not_compared(workspace):
    first, second = (evaluated_run(workspace, name) for name in ("one", "two"))
    lines = second.predictions_file.read_text().splitlines()
    second.predictions_file.write_text("\n".join(lines[1:]) + "\n")
    with pytest.raises(InputError, match="not evaluated on the same rows"):
        ftlab.compare([first.id, second.id], workspace=workspace.root)


def test_a_run_like_the_wanted_one_is_taken_over_and_others_are_not(workspace, capsys):
    run = evaluated_run(workspace)
    like = build_config({"name": "another name", "optimisation": {"max_steps": 7}})
    assert ftlab.trained(like, workspace=workspace.root).id == run.id
    assert run.id in capsys.readouterr().out, "it says which run it took"
    assert ftlab.trained(like, run.id[:20], workspace=workspace.root).id == run.id
    for other, said in (("data", "nothing.jsonl"), ("model", "There is no such model folder")):
        settings = {"data": {"source": "./nothing.jsonl"}} if other == "data" else {"model": {"base": "./none"}}
        with pytest.raises(InputError, match=said):  # it would have been trained
            ftlab.trained(build_config(settings), workspace=workspace.root)


def test_runs_live_on_drive_in_colab_and_here_elsewhere(tmp_path, monkeypatch):
    from ftlab.api import series

    assert ftlab.workspace_folder(tmp_path / "here") == tmp_path / "here"
    mounted = []
    colab = types.ModuleType("google.colab")  # there is none to be had outside of Colab
    colab.drive = types.SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setattr(series, "_DRIVE", os.fspath(tmp_path / "drive"))
    assert ftlab.workspace_folder("workspace") == tmp_path / "drive" / "MyDrive" / "ftlab" / "workspace"
    assert mounted == [os.fspath(tmp_path / "drive")]
    assert ftlab.workspace_folder(tmp_path / "lost", drive=False) == tmp_path / "lost"
    assert len(mounted) == 1
    monkeypatch.setattr(colab.drive, "mount", {}.__getitem__)  # raises, as Colab does when access is declined
    with pytest.raises(FtlabError, match=r"Google Drive was not mounted.*drive = False"):
        ftlab.workspace_folder("workspace")


def test_an_interrupted_run_is_taken_up_again_and_a_stopped_one_is_not(workspace, rows_file):
    config = build_config({"data": {"source": os.fspath(rows_file)}, "launcher": {"device": "cpu"}})
    with locked(workspace.device_lock):  # they wait for the device and load nothing
        lost, stopped = (supervisor.submit(config, workspace) for _ in range(2))
        for run in (lost, stopped):
            while supervisor.status(run).pid is None:
                time.sleep(0.05)
        supervisor.stop(stopped)
        supervisor.wait(stopped)
        os.kill(supervisor.status(lost).pid, signal.SIGKILL)
        assert supervisor.wait(lost).state == "failed"
        assert [run.id for run in ftlab.resume_interrupted(workspace.root)] == [lost.id]
        assert supervisor.status(lost).is_active and supervisor.status(stopped).state == "stopped"
        assert ftlab.resume_interrupted(workspace.root) == [], "it is at work already"
        supervisor.stop(lost)
        supervisor.wait(lost)


def test_a_failure_of_its_own_is_not_taken_up_again(workspace):
    run = evaluated_run(workspace)
    status = dataclasses.asdict(supervisor.status(run))
    error = {"kind": "input", "what": "The data are gone.", "why": None, "try": None}
    write_json(run.status_file, status | {"state": "failed", "error": error})
    assert ftlab.resume_interrupted(workspace.root) == []


def test_other_versions_are_told_with_the_line_that_installs_the_recorded_ones():
    import torch

    with pytest.raises(FtlabError) as caught:
        same_versions({"torch": "0.0.1", "no-such-package": "1.0"})
    assert f"torch {torch.__version__} instead of 0.0.1" in str(caught.value)
    assert 'pip install "torch==0.0.1" "no-such-package==1.0"' in str(caught.value)
    assert same_versions({"torch": torch.__version__}) == {}
    assert same_versions({"torch": "0.0.1"}, strict=False) == {"torch": ("0.0.1", torch.__version__)}


def test_data_that_changed_are_refused_by_their_name(workspace, rows_file):
    import hashlib

    config = build_config({"data": {"source": os.fspath(rows_file)}})
    sha256 = hashlib.sha256(rows_file.read_bytes()).hexdigest()
    same_data(config, [{"name": rows_file.name, "sha256": sha256}], workspace)
    with pytest.raises(InputError, match=rf"{re.escape(rows_file.name)} has changed since"):
        same_data(config, [{"name": rows_file.name, "sha256": "0" * 64}], workspace)


def test_figures_agree_to_the_last_digit_or_within_what_is_allowed(workspace):
    run = evaluated_run(workspace)
    name, value = next((one["name"], one["values"]["adapted"]) for one in run.comparison()["measures"])
    recorded = {f"{name}, adapted": value}
    assert compare_figures(run, recorded).same
    moved = {f"{name}, adapted": value * 1.01 + 1e-9}
    assert not compare_figures(run, moved).same
    assert compare_figures(run, moved, tolerance=0.05).same
    assert compare_figures(run, {"never measured": 1.0}).differing == ["never measured: None instead of 1.0"]


def test_a_run_that_has_no_result_has_no_notebook(workspace):
    with pytest.raises(FtlabError, match="has no result to repeat"):
        notebook_of(evaluated_run(workspace), workspace)
