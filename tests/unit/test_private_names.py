"""Nothing that ftlab uses inside other libraries changes unseen (private_names.py)."""

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
import textwrap
from pathlib import Path

import pytest

import ftlab
from tests.unit import private_names
from tests.unit.private_names import CHECKED_WITH, INSIDES, Inside

PACKAGE = Path(ftlab.__file__).parent
HOW = "read the difference and what ftlab makes of it, then renew: python -m tests.unit.test_private_names"
# Named so by the standard library, which documents them or keeps them: argparse's actions, namedtuple, the process.
STANDARD = {"_actions", "_replace", "_exit", "_typeshed"}  # the last for the type checker alone
# Set on every autograd function, and on every abstract class.
GENERATED = {"_backward_cls", "_abc_impl"}


def is_installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


def version_of(library: str) -> str:
    return importlib.metadata.version(library).split("+")[0]  # not that of one build


def source_of(name: str) -> str:
    """The source of what the dotted `name` is, read from its file: objects may have been replaced in this process, by
    ftlab itself. Raises LookupError where it is gone."""
    package, *parts = name.split(".")
    place = Path(importlib.util.find_spec(package).origin).parent
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    file = place / f"{parts.pop(0)}.py"
    if not file.exists():
        raise LookupError(name)
    text = file.read_text(encoding="utf-8")
    nodes = ast.parse(text).body
    for part in parts:
        nodes = [node for node in within(nodes) if part in names_of(node)]
        *_, last = nodes or [None]
        if last is None:
            raise LookupError(name)
        nodes, matches = getattr(last, "body", []), nodes
    lines = text.splitlines()
    return "\n".join(line for node in matches for line in lines[first_line(node) - 1 : node.end_lineno])


def within(nodes: list[ast.stmt]) -> list[ast.stmt]:
    """`nodes`, and those of their branches."""
    inner = [node for outer in nodes if isinstance(outer, ast.If | ast.Try) for node in within(outer.body)]
    return [*nodes, *inner]


def names_of(node: ast.stmt) -> set[str]:
    """What a statement defines."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            return {ast.unparse(target) for target in targets}
        case ast.AnnAssign(target=target):
            return {ast.unparse(target)}
    return set()


def first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])


def hash_of(inside: Inside) -> str:
    """Of its source without blank lines, and without blanks at the ends of lines."""
    lines = [line.rstrip() for line in textwrap.dedent(source_of(inside.name)).splitlines()]
    return hashlib.sha256("\n".join(filter(None, lines)).encode()).hexdigest()[:16]


@pytest.mark.parametrize("inside", INSIDES, ids=lambda inside: inside.name)
def test_what_is_used_inside_a_library_is_as_it_was_checked(inside):
    library = inside.package
    if not is_installed(library):
        pytest.skip(f"{library} is not installed")
    was, now = CHECKED_WITH[library], version_of(library)
    try:
        found, source = hash_of(inside), source_of(inside.name)
    except LookupError:
        pytest.fail(f"{inside.name} ({inside.why}) of {library} {now} is gone since it was checked with {was}: {HOW}")
    assert found == inside.hash, (
        f"{inside.name} ({inside.why}) of {library} {now} has changed since it was checked with {was}: {HOW}"
    )
    assert all(attribute in source for attribute in inside.attributes)


LISTED = {inside.name.split(".")[-1] for inside in INSIDES} | {name for one in INSIDES for name in one.attributes}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_" and name.isidentifier()


def uses_in(text: str) -> set[str]:
    """Private names that a file takes from elsewhere: imported, read of anything but its own objects, or in strings."""
    tree = ast.parse(text)
    own, uses = set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AsyncFunctionDef(name=name):
                own.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                own.add(name)
            case ast.Attribute(attr=name, value=ast.Name(id="self"), ctx=ast.Store()):
                own.add(name)
            case ast.ImportFrom(module=str(module), names=names, level=0) if not module.startswith("ftlab"):
                uses |= {alias.name for alias in names if is_private(alias.name)}
                uses |= {part for part in module.split(".") if is_private(part)}
            # As in getattr(thing, "_name") or vars(module).update({"_name": ours}).
            case ast.Call(args=[_, ast.Constant(str(name)), *_]):
                uses |= {name} if is_private(name) else set()
            case ast.Dict(keys=parts) | ast.Set(elts=parts):
                names = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
                uses |= set(filter(is_private, names))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not is_private(node.attr):
            continue
        inherited = isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()"
        if inherited or node.attr not in own:
            uses.add(node.attr)
    return uses


def test_the_look_for_private_names_finds_every_way_to_use_one():
    ways = (
        "from trl.x import _a\ngetattr(b, '_b', 0)\nmodule._c = 1\n"
        "class D(E):\n def _d(self): super()._d(); self._e()\n"
        "switched(layers, '_f', True)\nvars(module).update({'_g': 1})\n{'_h'} <= vars(module).keys()"
    )
    assert uses_in(ways) == {"_a", "_b", "_c", "_d", "_e", "_f", "_g", "_h"}
    assert (
        uses_in("from ftlab.x import _a\nclass B:\n def __init__(self): self._b = _; self._c()\n def _c(self): ...")
        == set()
    )


def test_every_private_name_of_a_library_that_is_used_is_listed():
    found = {file: uses_in(file.read_text(encoding="utf-8")) - LISTED - STANDARD for file in PACKAGE.rglob("*.py")}
    assert {str(file.relative_to(PACKAGE)): names for file, names in found.items() if names} == {}, (
        f"list them in {private_names.__file__}"
    )


def test_every_private_method_of_a_library_that_is_overridden_is_listed():
    found = {
        f"{base.__module__}.{base.__qualname__}.{name}" for kind in classes_of_ours() for name, base in overridden(kind)
    }
    assert "trl.trainer.grpo_trainer.GRPOTrainer._calculate_rewards" in found
    assert found - {inside.name for inside in INSIDES} == set(), f"list them in {private_names.__file__}"


def classes_of_ours() -> list[type]:
    """The classes of the modules in which one has a base and a private method."""
    modules = []
    for file in sorted(PACKAGE.rglob("*.py")):
        classes = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
        if any(node.bases and any(map(is_private, map(name_of, node.body))) for node in classes):
            modules.append(
                importlib.import_module(".".join(("ftlab", *file.relative_to(PACKAGE).with_suffix("").parts)))
            )
    return [kind for module in modules for kind in vars(module).values() if inspect.isclass(kind) and is_ours(kind)]


def name_of(node: ast.stmt) -> str:
    return node.name if isinstance(node, ast.FunctionDef) else ""


def is_ours(kind: type) -> bool:
    return kind.__module__.split(".")[0] == "ftlab"


def overridden(kind: type) -> list[tuple[str, type]]:
    """(name, the class of a library that would be asked without us) of what `kind` overrides."""
    of_libraries = [base for base in kind.__mro__ if base.__module__.split(".")[0] in CHECKED_WITH]
    ours = {name for base in kind.__mro__ if is_ours(base) for name in vars(base) if is_private(name)}
    first = {name: next((base for base in of_libraries if name in vars(base)), None) for name in ours - GENERATED}
    return [(name, base) for name, base in first.items() if base is not None]


def renew() -> list[str]:
    """Write the versions and hashes of now to private_names.py; returns the names that are gone, whose entries stay."""
    file = Path(private_names.__file__)
    text = file.read_text(encoding="utf-8")
    installed = [inside for inside in INSIDES if is_installed(inside.package)]
    gone = []
    for inside in installed:
        try:
            new = hash_of(inside)
        except LookupError:
            gone.append(inside.name)
            continue
        text = re.sub(rf'("{re.escape(inside.name)}",\s+"[^"]*",\s+)"{inside.hash}"', rf'\g<1>"{new}"', text)
    versions = CHECKED_WITH | {inside.package: version_of(inside.package) for inside in installed}
    lines = "".join(f'    "{name}": "{version}",\n' for name, version in sorted(versions.items()))
    text = re.sub(r"CHECKED_WITH: dict\[str, str\] = \{[^}]*\}", f"CHECKED_WITH: dict[str, str] = {{\n{lines}}}", text)
    file.write_text(text, encoding="utf-8")
    return gone


def test_renewing_goes_on_where_a_name_is_gone_and_names_it(monkeypatch, tmp_path):
    text = Path(private_names.__file__).read_text(encoding="utf-8")
    copy = tmp_path / "private_names.py"
    copy.write_text(text, encoding="utf-8")
    kept = next(inside for inside in INSIDES if inside.package == "transformers")
    monkeypatch.setattr(private_names, "__file__", str(copy))
    monkeypatch.setitem(globals(), "INSIDES", (Inside("transformers.trainer.Trainer._gone", "", ""), kept))
    assert renew() == ["transformers.trainer.Trainer._gone"]
    assert copy.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit("\n".join(f"{name} is gone: mend what uses it, and its entry" for name in renew()) or 0)
