"""The parser of the command line: help, examples, settings as options, usage errors, and commands that texts name."""

from __future__ import annotations

import argparse
import ast
import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from ftlab import __version__
from ftlab.cli.main import COMMANDS, build_parser, main, parse
from ftlab.cli.parser import UsageError
from ftlab.cli.settings import overrides
from ftlab.config import RunConfig, build_config
from ftlab.errors import InputError

PACKAGE = Path(__file__).parents[2] / "ftlab"
# Programs of others, whose flags some messages name.
_OTHERS = ("accelerate config", "lm_eval", "llama-gguf-split", "pip install")


@functools.cache
def commands() -> dict[str, argparse.ArgumentParser]:
    """All commands that run something, by their words: `data versions list`."""

    def below(words: list[str], parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
        groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
        if not groups:
            yield " ".join(words), parser
        for name, inner in groups[0].choices.items() if groups else ():
            yield from below([*words, name], inner)

    return dict(below([], build_parser()))


def flags(parser: argparse.ArgumentParser) -> set[str]:
    return {flag for action in parser._actions for flag in action.option_strings}


def test_the_help_lists_every_command_once_by_the_way_of_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    told = capsys.readouterr().out
    assert ended.value.code == 0
    places = [told.index(f"  {title}:\n") for title in ("Data", "Train", "Evaluate", "Chat", "Blind test", "Export")]
    assert places == sorted(places)
    for name in {words.split()[0] for words in commands()}:
        assert len(re.findall(rf"^    {name} +[A-Z].+[^.]$", told, re.MULTILINE)) == 1
    assert sum(map(len, COMMANDS.values())) == len({words.split()[0] for words in commands()})


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"ftlab {__version__}\n"


def test_the_help_loads_neither_the_settings_nor_a_library_that_is_not_pythons_own() -> None:
    program = "import sys; from ftlab.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    program += "print({'pydantic', 'yaml', 'numpy', 'torch', 'ftlab.config'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


@pytest.mark.parametrize("words", commands())
def test_the_example_in_the_help_of_a_command_parses_and_is_of_that_command(words: str) -> None:
    parser = commands()[words]
    assert parser.example.startswith(words) and parser.example in parser.format_help()
    args = parse(shlex.split(parser.example))
    assert args.command.__name__ == parser.get_default("command").__name__
    for action in parser._actions:
        assert action.help, f"{words}: {action.dest} has no help"


def test_every_setting_of_a_run_is_an_option_that_says_what_set_says() -> None:
    words, settings = ["train"], []
    for name, value in (("name", "my run"), ("stage", "pretraining"), ("trainer", "{optim: sgd}")):
        words += [f"--{name}", value]
        settings.append(f"{name}={value}")
    fields = {
        f"{section}.{name}"
        for section, info in RunConfig.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        for name in info.annotation.model_fields
    }
    assert {f"--{path}" for path in (*fields, "name", "stage", "trainer")} <= flags(commands()["train"])
    for path, value in {
        "optimisation.learning_rate": "1e-4",
        "optimisation.epochs": "2.5",
        "evaluation.prompted": "true",
        "method.name": "dora",
        "data.replay": "none",
        "tracking.report_to": "trackio,tensorboard",
    }.items():
        words += [f"--{path}", value]
        settings.append(f"{path}={value}")
    assert build_config({}, overrides(parse(words))) == build_config({}, settings)


def test_a_text_needs_no_quotation_marks_of_yaml_and_the_later_word_wins() -> None:
    text = 'Answer: "yes" or [no] # truly'
    args = parse(["train", "--data.system_prompt", text, "--set", "method.rank=4", "--method.rank", "8"])
    config = build_config({}, overrides(args))
    assert config.data.system_prompt == text and config.method.rank == 8


def test_advanced_settings_are_in_the_longer_help_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    for flag, is_all in (("--help", False), ("--help-all", True)):
        with pytest.raises(SystemExit) as ended:
            parse(["preflight", flag])
        told = capsys.readouterr().out
        assert ended.value.code == 0 and ("--method.alpha" in told) == is_all
        assert "--optimisation.epochs PASSES" in told and "Above 0 up to 1,000." in told


@pytest.mark.parametrize(
    ("words", "said", "given", "allowed", "try_"),
    [
        (
            ["runs", "shov"],
            "Unknown command",
            "'shov'",
            "list, show, stop, resume, move, delete",
            "did you mean 'show'?",
        ),
        (["judge", "x"], "Missing: --url and --model", None, None, "python -m ftlab judge --help"),
        (["arena", "create", "--number", "many"], "--number cannot take this value", "'many'", "a whole number", None),
        (["preflight", "--price", "much"], "--price cannot take this value", "'much'", "a number", None),
        (["runs", "move", "x", "up"], "where cannot take this value", "'up'", "earlier, later, first, last", None),
        (["train", "--set"], "--set needs a value", None, None, "python -m ftlab train --help"),
        (["evaluate", "x", "--row-s", "3"], "Unknown option --row-s", "--row-s 3", None, "did you mean --rows?"),
        (["chat", "x", "y"], "Too many arguments", "y", None, "python -m ftlab chat --help"),
        (["chat", "x", ""], "Too many arguments", "an empty text", None, "python -m ftlab chat --help"),
        (["train", "--se", "x=1"], "More than one option begins like this", "--se", "--set, --seeds", None),
        ([], "Missing: COMMAND", None, None, "python -m ftlab --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words_are_told_with_what_was_given_what_is_allowed_and_what_to_try(
    words: list[str], said: str, given: str | None, allowed: str | None, try_: str | None
) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words)
    error = caught.value
    assert (error.what, error.given, error.allowed) == (said, given, allowed)
    assert error.try_ == try_ or (try_ is None and error.try_.endswith("--help"))


def test_a_flag_may_be_shortened() -> None:
    assert parse(["chat", "last", "--mess", "Hello"]).message == "Hello"


@functools.cache
def sources() -> list[tuple[Path, ast.Module]]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return [(path.relative_to(PACKAGE), ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def texts() -> Iterator[tuple[str, str]]:
    """Where, and each text that a person may get to read; what is filled in later is a 1. Docstrings are left out."""
    for path, tree in sources():
        parts: set[ast.AST] = set()
        for node in ast.walk(tree):  # the outer ones come first
            if isinstance(node, ast.JoinedStr):
                parts.update(node.values)
                if any("-m ftlab" in str(getattr(part, "value", "")) for part in node.values):
                    yield f"{path}:{node.lineno}", "".join(map(_part, node.values))
            elif isinstance(node, ast.Expr):
                parts.add(node.value)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
                yield f"{path}:{node.lineno}", node.value
    for path in sorted(PACKAGE.rglob("*.md")):
        if path.parent.name == "docs":  # tests/unit/test_docs.py reads whole blocks of these
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield f"{path.relative_to(PACKAGE)}:{number}", re.split(r"\s#\s", line)[0]


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    value = part.value
    if isinstance(value, ast.IfExp) and isinstance(value.body, ast.Constant):
        return str(value.body.value)
    filled_in = ast.unparse(value)
    return "" if re.search(r"flag|where|settings|_as_counted|PROGRAM|prog\b", filled_in) else "1"


def named_commands() -> dict[str, str]:
    """The command lines that texts name, by where they stand."""
    found = {}
    for place, text in texts():
        for rest in re.findall(r"python -m ftlab (?=[a-z])([^`\n;|(]*)", text):
            line = re.split(r"[,:.)] |[,:.)]$|, |: | \.\.\.| -> | shows\b", rest.strip())[0].rstrip(" .,:)")
            found[f"{place} {line}"] = line
    return found


def test_the_commands_that_texts_name_parse() -> None:
    parser, wrong, groups = build_parser(), [], {words.rpartition(" ")[0] for words in commands()}
    lines = named_commands()
    assert len(lines) > 50
    for place, line in lines.items():
        if line in groups:  # the text is about all commands of a group
            continue
        try:
            _, extra = parser.parse_known_args(shlex.split(line))
            wrong += [f"{place}: {extra}"] if extra else []
        except (InputError, ValueError) as error:
            wrong.append(f"{place}: {error}")
    assert not wrong, "\n".join(wrong)


def test_the_flags_that_errors_name_exist() -> None:
    known = set().union(*(flags(parser) for parser in commands().values()))
    known |= {"--flavour", "--machine-rank"}  # spaces/deploy.py, training.launching.launch
    wrong, seen = [], 0
    for path, tree in sources():
        for call in ast.walk(tree):
            name = getattr(call, "func", None) and (getattr(call.func, "id", "") or getattr(call.func, "attr", ""))
            if not name or not name.endswith(("Error", "MissingPackage", "Refused", "Unreadable")):
                continue
            text = " ".join(
                part.value for part in ast.walk(call) if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )
            if any(other in text for other in _OTHERS):
                continue
            for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", text):
                seen += 1
                if flag not in known:
                    wrong.append(f"{path}:{call.lineno}: {flag}")
    assert seen > 20 and not wrong, "\n".join(wrong)
