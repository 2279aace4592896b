"""How durations and sentences read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ftlab.core.words import duration
from ftlab.errors import sentence


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (95, "1 min 35 s"),
        (3599.6, "1 h 00 min"),
        (3700, "1 h 01 min"),
        (47 * 3600, "47 h 00 min"),
        (72 * 3600, "3 days"),
    ],
)
def test_durations_read_like_a_clock(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "ended"), [(" Try it ", "Try it."), ("Why?", "Why?"), ("so on …", "so on …"), ("Given:", "Given:")]
)
def test_a_sentence_has_one_end(text, ended):
    assert sentence(text) == ended


def test_nothing_advises_to_install_the_package_of_a_stranger_that_might_take_the_free_name():
    root = Path(__file__).parents[2]
    kinds = ("*.md", "*.py", "*.ipynb", "*.jinja", "*.toml", "*.txt")
    files = [
        file for folder in ("ftlab", "notebooks", "spaces") for kind in kinds for file in (root / folder).rglob(kind)
    ]
    files += [root / "README.md", root / ".github" / "CONTRIBUTING.md"]
    advised = re.compile(r"""pip install\s+(?:-[^e\s]\S*\s+)*[\\"']*ftlab\b(?! @ )""")
    found = [file.name for file in files if advised.search(file.read_text(encoding="utf-8"))]
    assert found == []
    assert advised.search("pip install 'ftlab[mcp]'") and advised.search("pip install -U ftlab")
    assert not advised.search("pip install -q 'ftlab @ git+https://github.com/OWNER/ftlab'")


def test_no_part_of_a_text_is_left_behind_as_a_statement_of_its_own():
    """As it is when a long string is wrapped without parentheses: its second line is then shown to nobody."""
    root = Path(__file__).parents[2] / "ftlab"
    lost = []
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for field in ("body", "orelse", "finalbody"):
                statements = getattr(node, field, None)
                for place, statement in enumerate(statements if isinstance(statements, list) else []):
                    match statement:
                        case ast.Expr(value=ast.JoinedStr()):
                            pass
                        case ast.Expr(value=ast.Constant(value=str())) if place or field != "body":
                            pass
                        case _:
                            continue
                    lost.append(f"{path.relative_to(root)}:{statement.lineno}")
    assert not lost


def test_no_value_is_called_found_one_said_given_or_shown():
    """Such names say how a value came about, not what it is. The keys of JSON forms and what an InputError was given
    are part of the interface."""
    banned = {"found", "one", "said", "given", "shown"}
    root = Path(__file__).parents[2] / "ftlab"
    named = []
    for path in sorted(root.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        json_keys = {
            key.target
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and "TypedDict" in map(ast.unparse, node.bases)
            for key in node.body
            if isinstance(key, ast.AnnAssign)
        }
        for node in ast.walk(tree):
            match node:
                case ast.Name(id=name, ctx=ast.Store()) if node not in json_keys:
                    pass
                case ast.arg(arg=name) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.FunctionDef(name=name):
                    pass
                case _:
                    continue
            if name in banned and (path.name, name) != ("errors.py", "given"):
                named.append(f"{path.relative_to(root)}:{node.lineno} {name}")
    assert not named
