"""Endpoints for programs: a few, declared explicitly. All other calls of the page stay private.

They return plain JSON and never wait for a run: `train` and `evaluate` start one, `status` reports its progress. An
expected failure reaches the caller as one clear message.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
from collections.abc import Callable
from inspect import signature
from typing import Any, get_args

import gradio as gr

from ftlab.config import build_config
from ftlab.core.damage import explained
from ftlab.core.files import limited_to
from ftlab.core.parsing import check_depth, whole
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import install
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.keeping import also_asked
from ftlab.report.measures import verdict_text
from ftlab.ui import background, run_files
from ftlab.ui.kit.events import reach

log = logging.getLogger(__name__)

_FACTS = ("name", "kind", "rows", "columns", "format", "why", "confidence", "splits", "dropped", "examples", "notes")
_STATUS = ("state", "phase", "step", "total_steps", "done", "total", "eta_seconds", "error", "warnings")


def offer(workspace: Workspace) -> None:
    """Declare the endpoints over `workspace`, within the Blocks being built."""

    def inspect(source: str, settings: dict | None = None) -> dict:
        """Look at a data source before training on it: rows, columns, the recognised format and why, the splits.

        Args:
            source: a sample, a file on the machine of the app, a Hub data set id, or version:<id>
            settings: those of the section data of a run, e.g. {"columns": {"prompt": "question"}}
        """
        from ftlab.data.inspection import inspect as inspect_data

        inspection = inspect_data(
            build_config({"data": {"source": source, **(settings or {})}}).data, workspace
        ).as_dict()
        return {name: inspection[name] for name in _FACTS}

    def train(config: dict | None = None) -> dict:
        """Start a run and return its id at once; status says how far it is.

        Args:
            config: the settings of a run by section, as in its YAML file, e.g. {"data": {"source": "support_triage"}}
        """
        from ftlab.training import supervisor

        wanted = build_config(config or {})
        run = supervisor.submit(wanted, workspace)
        background.release_models(wanted.launcher.device)
        return {"run": run.id, "state": supervisor.status(run).state}

    def status(run: str = "last") -> dict:
        """How far a run is and what came of it: state, step, metrics, error; once evaluated, verdict and measures.

        Args:
            run: the id of the run, the beginning of it, or last
        """
        directory = workspace.run(run)
        return _status_of(directory)

    def stop(run: str) -> dict:
        """Ask a run (or its evaluation) to save and stop; asked a second time, it is killed.

        Args:
            run: the id of the run, or the beginning of it
        """
        from ftlab.training import supervisor

        directory = workspace.run(run)
        evaluating = supervisor.evaluation_status(directory)
        if evaluating is not None and evaluating.is_active and not supervisor.status(directory).is_active:
            return {"run": directory.id, "said": supervisor.stop_evaluation(directory).message}
        return {"run": directory.id, "said": supervisor.stop(directory).message}

    def evaluate(run: str = "last", max_rows: int | None = None, settings: dict | None = None) -> dict:
        """Compare a run with its base on the held-out rows; returns at once, and status has the result in the end.

        Args:
            run: the id of the run, the beginning of it, or last
            max_rows: rows at most
            settings: those of the section evaluation of a run, e.g. {"prompted": true}
        """
        from ftlab.evaluation.request import Request
        from ftlab.training import supervisor

        directory = workspace.run(run)
        supervisor.submit_evaluation(directory, workspace, Request(max_rows=max_rows, settings=settings or {}))
        return {"run": directory.id, "state": "queued"}

    def chat(
        message: str,
        run: str = "last",
        system: str | None = None,
        temperature: float = 0.0,
        max_new_tokens: int = 128,
        as_trained: bool = True,
        strength: float | None = None,
    ) -> dict:
        """The answers of a run's base and of its adapted model to one message.

        Args:
            message: what is asked
            run: the id of the run, the beginning of it, or last
            system: a system prompt; none takes the one of the run
            temperature: 0 takes the likeliest token each time, up to 2 is more varied
            max_new_tokens: the longest answer
            as_trained: whether the message is put into the prompt of the training rows; else it goes as it is
            strength: of what training changed, 0 (the base) to 1 (as trained); none takes what was chosen for the run
        """
        background.ensure("transformers")
        from ftlab.evaluation.duet import load_duet, threads_beside_a_run

        directory = workspace.run(run)
        if not directory.has_result:
            raise FtlabError(f"The run {directory.id} has no trained model to talk to", try_="wait until it has ended")
        answers = load_duet(directory).stream(
            message,
            system=system,
            as_trained=as_trained,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            threads=threads_beside_a_run() if run_files.current_job(workspace) else None,
            strength=strength,
        )
        *_, last = answers
        return {"base": last.base, "adapted": last.adapted, "cut": list(last.cut), "notes": list(last.notes)}

    def arena_results(test: str | None = None) -> dict:
        """What the votes of a blind test say, once they may be seen; until then only how many there are.

        Args:
            test: the id of the test; none takes the newest
        """
        return _verdict_of(test, workspace)

    _refuse_too_few(gr.context.Context.root_block)
    for function in (inspect, train, status, stop, evaluate, arena_results):
        gr.api(_told(function), api_name=function.__name__)
    # One at a time per device, like the answers of the Chat tab.
    gr.api(_told(chat), api_name="chat", concurrency_id="device", concurrency_limit=1)


def check_mcp() -> None:
    """Raise InputError if the package for the Model Context Protocol is not installed."""
    if importlib.util.find_spec("mcp") is None:
        raise InputError("The package mcp is not installed", given="--mcp", try_=install("mcp"))


def _status_of(run: RunDirectory) -> dict[str, Any]:
    current, evaluating = run_files.status(run), run_files.evaluation_status(run)
    latest: dict[str, float] = {}
    for row in run_files.metrics(run):
        latest |= {name: value for name, value in row.items() if isinstance(value, int | float)}
    state = {"run": run.id} | {name: getattr(current, name) for name in _STATUS}
    state |= {"metrics": latest, "evaluation": evaluating.state if evaluating else None, "verdict": None}
    comparison = run_files.comparison(run)
    if comparison:
        state["verdict"] = verdict_text(comparison)
        state["measures"] = {measure["name"]: measure["values"] for measure in comparison.get("measures", [])}
    state["also_asked"] = [
        {"name": name, "asked": asked, "verdict": verdict} for name, asked, verdict in also_asked(run)
    ]
    return state


def _verdict_of(test_id: str | None, workspace: Workspace) -> dict[str, Any]:
    from ftlab.arena.blind_tests import list_tests, progress
    from ftlab.arena.store import open_store
    from ftlab.arena.tally import evaluate, revealed_now
    from ftlab.ui.rater.serving import has_tests

    every = list_tests(open_store(workspace)) if has_tests(workspace) else []
    test = next((candidate for candidate in every if test_id in (None, candidate.id)), None)
    if test is None:
        raise InputError(
            "There is no such blind test" if test_id else "There is no blind test yet",
            given=test_id,
            allowed=", ".join(candidate.id for candidate in every[:5]) or None,
            try_="make one on the Blind test tab, or with: python -m ftlab arena create",
        )
    store = open_store(workspace)
    now = progress(store, test.id)
    result = {"test": test.id, "title": test.title, "state": test.state}
    result |= {"votes": {"cast": now["votes"], "planned": now["planned"]}, "revealed": revealed_now(store, test.id)}
    if result["revealed"] is None:
        return result
    verdict = evaluate(store, test.id)
    names = ("verdict", "general", "text", "win_rate", "interval", "counts", "contestants")
    return result | {name: value for name, value in verdict.items() if name in names}


def _refuse_too_few(blocks: Any) -> None:
    """Gradio (6.31) answers a call with too few values with an empty error (null)."""
    usual = blocks.validate_inputs

    def validate(called: Any, values: list[Any]) -> None:
        try:
            usual(called, values)
        except ValueError:
            text = f"Too few values. Given: {len(values)}. Allowed: {len(called.inputs)}, null for what is left out."
            raise gr.Error(text, print_exception=False) from None

    blocks.validate_inputs = validate


_IN_WORDS = {
    bool: "true or false",
    str: "text",
    int: "a whole number",
    float: "a number",
    dict: "an object {...}",
    type(None): "null",
}


def _check_type(name: str, value: Any, annotation: Any) -> None:
    allowed = get_args(annotation) or (annotation,)
    # In Python a bool is an int, and a whole number is a valid number.
    fits = isinstance(value, allowed) or (float in allowed and isinstance(value, int))
    in_words = " or ".join(_IN_WORDS[kind] for kind in allowed)
    try:
        check_depth(value)
    except ValueError as error:
        raise InputError(f"{name} is {error}", allowed=in_words) from None
    if isinstance(value, str) and "\0" in value:
        raise InputError(f"{name} holds a character with the number 0", allowed="other text")
    if isinstance(value, int | float) and not -(2**63) <= value < 2**63:  # excludes nan
        raise InputError(f"{name} is out of range", allowed=in_words)
    if not (fits and isinstance(value, bool) == (bool in allowed)):
        text = whole(json.dumps(value, ensure_ascii=False, default=str)[:80])
        raise InputError(f"{name} cannot be {text}", allowed=in_words)


def _told(function: Callable[..., dict]) -> Callable[..., dict]:
    """`function` with expected failures passed on unchanged, and all others reduced to one sentence without details.

    Arguments of a type other than declared are refused before the call: Gradio passes on any value.
    """
    takes, folders = signature(function, eval_str=True), reach()

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> dict:
        try:
            bound = takes.bind(*args, **kwargs)
            for name, value in bound.arguments.items():
                _check_type(name, value, takes.parameters[name].annotation)
                bound.arguments[name] = whole(value)
            with limited_to(folders):
                return function(*bound.args, **bound.kwargs)
        except FtlabError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except Exception as error:
            if isinstance(known := explained(error), InputError):  # such as a name that is too long for a file
                raise gr.Error(str(known), print_exception=False) from None
            log.exception("An endpoint for programs failed: %s", function.__name__)
            raise gr.Error(
                "Something went wrong inside ftlab; the details are in the terminal where the app runs",
                print_exception=False,
            ) from None

    return call
