"""What goes into a Space: a list of allowed files, its README.md, its requirements.txt. Everything else stays here."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ftlab.errors import FtlabError, InputError  # noqa: E402

PYTHON = "3.12"
# Beside modules, only these lie in the package; nothing else can slip in.
_DATA = {".css", ".js", ".jinja", ".html", ".json", ".jsonl", ".csv", ".png", ".safetensors"}
_WEIGHTS = Path("ftlab/models/starter/weights")
_SAMPLES = Path("ftlab/samples")


@dataclass(frozen=True)
class Flavour:
    """One kind of Space: what stands at the top of its README.md, which packages it needs beside Gradio, and what its
    owner sets (name, whether it is a secret, what for)."""

    title: str
    emoji: str
    colours: tuple[str, str]
    about: str
    hardware: str
    login: bool
    packages: tuple[str, ...] | None  # None: all of requirements.txt
    more: tuple[str, ...] = ()
    never: tuple[str, ...] = ()  # rooms that its code names and does not enter
    settings: tuple[tuple[str, bool, str], ...] = ()


_TOKEN = ("HF_TOKEN", True, "a token that may write to that data set")
_STORE = (
    "FTLAB_SPACE_STORE",
    False,
    "owner/name of a private data set where {what} are kept: the disk of a Space is lost",
)
_RATING = ("SQLAlchemy", "itsdangerous", "nh3", "markdown-it-py", "latex2mathml")  # what only raters' pages need
_SERVING = (
    *("pydantic", "PyYAML", "filelock", "Jinja2", "MarkupSafe", "numpy", "huggingface_hub", "httpx", "regex"),
    *_RATING,
)
FLAVOURS = {
    "lab": Flavour(
        "ftlab",
        "🧪",
        ("blue", "indigo"),
        "Adapt a language model with a few hundred examples, and prove that it got better. Only the owner can train.",
        "t4-small",
        True,
        None,
        ("authlib", "psycopg[binary]"),
        (),
        (
            ("FTLAB_OWNER", False, "your name on the Hub: who logs in as this may train"),
            ("FTLAB_PASSWORD", True, "instead, or as well: a password of 12 characters or more"),
            (_STORE[0], _STORE[1], _STORE[2].format(what="runs, data and votes")),
            _TOKEN,
            (
                "FTLAB_SECRET",
                True,
                "16 characters or more that sign the links of raters, so that they outlive a restart",
            ),
            ("FTLAB_SHOW_RUN", False, "the run that everybody may chat with: its id, or last; without it, none"),
        ),
    ),
    "demo": Flavour(
        "Before and after",
        "⚖️",
        ("blue", "green"),
        "A base model and the same model after fine-tuning answer side by side; the report says what changed.",
        "zero-a10g",
        False,
        (
            *(
                "torch",
                "transformers",
                "peft",
                "accelerate",
                "gguf",
                "safetensors",
                "tokenizers",
                "bitsandbytes",
                "regex",
                "scipy",
            ),
            *(name for name in _SERVING if name not in _RATING),
        ),
        ("spaces",),
        (),
        (
            (
                "FTLAB_DEMO_REPO",
                False,
                "owner/name of a model repository with a run of ftlab; else the run named by --run",
            ),
            ("HF_TOKEN", True, "a token that may read it, where it is private or its base is gated"),
        ),
    ),
    "vote": Flavour(
        "Compare answers",
        "🗳️",
        ("indigo", "purple"),
        "Raters compare answers without learning whose they are. Each has a link of their own.",
        "cpu-basic",
        False,
        _SERVING,
        ("psycopg[binary]",),
        # Models answer before, or behind an address.
        ("ftlab.models", "ftlab.evaluation.generate", "ftlab.data.rendering"),
        (
            (_STORE[0], _STORE[1], _STORE[2].format(what="tests and votes")),
            _TOKEN,
            (
                "FTLAB_SECRET",
                True,
                "the content of arena.secret in your workspace, so that the links you sent are valid",
            ),
            ("FTLAB_DATABASE_URL", True, "instead of the data set: postgresql://user:password@host/name"),
            ("FTLAB_ENDPOINT_KEY", True, "the key of the contestants' address, in tests where raters ask"),
        ),
    ),
}

# Tokens of the Hub, of OpenAI, AWS, GitHub and Slack, keys as PEM, and passwords within addresses.
_SECRETS = re.compile(
    rb"hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,}|AKIA(?!IOSFODNN7EXAMPLE)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|xox[abprs]-[A-Za-z0-9-]{10,}"
    rb"|-----BEGIN [A-Z ]*PRIVATE KEY-----|[a-z]+://[^\s:/@'\"{}]+:(?!password@)[^\s:/@'\"{}]{6,}@"
)

# A sample with keys in it that nobody ever had: the checks are to find them.
_MADE_UP = ("ftlab/samples/generate/messy.py", "ftlab/samples/messy_tickets/messy_tickets.csv")


def stage(flavour: str, folder: Path, *, run: str | None = None, workspace: str | None = None) -> dict[str, int]:
    """Put everything that a Space of `flavour` needs into the empty `folder`; returns the files with their bytes.

    `run` is what a demo shows. Raises InputError for another flavour or a run that cannot be shown, FtlabError when a
    secret stands in one of the files.
    """
    if flavour not in FLAVOURS:
        raise InputError("There is no such flavour of a Space", given=flavour, allowed=", ".join(FLAVOURS))
    if folder.exists() and any(folder.iterdir()):
        raise InputError("The folder is not empty", given=folder, try_="name one that does not exist")
    if run and flavour != "demo":
        raise InputError("Only a demo shows a run from the start", given=f"--run with {flavour}")
    folder.mkdir(parents=True, exist_ok=True)
    starter = flavour != "vote"
    if run:
        from ftlab.config import STARTER, load_config
        from ftlab.core.workspace import Workspace
        from ftlab.report.showcase import pack_showcase

        packed = pack_showcase(Workspace.open(workspace).run(run), folder / "run")
        starter = load_config(packed.config_file).model.base == STARTER
    for file in package_files(flavour, starter=starter):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, folder / file)
    shutil.copyfile(ROOT / "spaces" / flavour / "app.py", folder / "app.py")
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    (folder / "README.md").write_text(readme(flavour), encoding="utf-8")
    (folder / "requirements.txt").write_text(requirements(flavour), encoding="utf-8")
    refuse_secrets(folder)
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()
    }


def package_files(flavour: str, *, starter: bool) -> list[Path]:
    """The files of ftlab that the flavour needs: all of it for the lab, else the modules that its app.py reaches and
    the files beside them that they name. The starter's weights only where it is the base."""
    package = ROOT / "ftlab"
    files = [
        file.relative_to(ROOT)
        for file in package.rglob("*")
        if file.suffix in _DATA | {".py"} or file.parent == package / "docs"  # which Help shows
    ]
    files = [
        file for file in files if "__pycache__" not in file.parts and not any(p.startswith(".") for p in file.parts)
    ]
    if flavour == "lab":
        return sorted(files)
    modules = reached(ROOT / "spaces" / flavour / "app.py", FLAVOURS[flavour].never)
    rooms = {module.parent for module in modules} - {_SAMPLES}
    named = "".join((ROOT / module).read_text(encoding="utf-8") for module in modules)
    kept = {file for file in files if file.suffix != ".py" and file.parent in rooms and file.name in named}
    return sorted(modules | kept | {file for file in files if starter and file.parent == _WEIGHTS})


def reached(entry: Path, never: tuple[str, ...] = ()) -> set[Path]:
    """The modules of ftlab that `entry` imports, directly or not, also those imported only when they are needed; not
    what is in the rooms `never`."""
    found: set[Path] = set()
    waiting = [entry]
    while waiting:
        file = waiting.pop()
        if file == ROOT / "ftlab" / "__init__.py":
            continue  # names all verbs of a notebook, and imports none
        names = {name for name in _imported(file) if not f"{name}.".startswith(tuple(f"{room}." for room in never))}
        fresh = {found_ for name in names for found_ in _files_of(name)} - found
        found |= fresh
        waiting += [ROOT / one for one in fresh]
    return found


def _imported(file: Path) -> set[str]:
    """Names that `file` imports from ftlab: modules, or what is in them."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "ftlab"}


def _files_of(name: str) -> list[Path]:
    """The file of the module `name` and those of the packages around it; of a name within a module, only the latter."""
    parts = name.split(".")
    places = [Path(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    return [place for place in (*places, Path(*parts).with_suffix(".py")) if (ROOT / place).is_file()]


def requirements(flavour: str) -> str:
    """The pinned packages of the flavour. Gradio itself comes from `sdk_version`."""
    pinned = _pinned()
    names = [name for name in pinned if name != "gradio"] if FLAVOURS[flavour].packages is None else []
    names = names or list(FLAVOURS[flavour].packages or ())
    return "\n".join([*(f"{name}=={pinned[name]}" for name in names), *FLAVOURS[flavour].more]) + "\n"


def readme(flavour: str) -> str:
    """README.md of the Space: what the Hub reads at its top, and what its owner has to set."""
    is_ = FLAVOURS[flavour]
    head = {
        "title": is_.title,
        "emoji": is_.emoji,
        "colorFrom": is_.colours[0],
        "colorTo": is_.colours[1],
        "sdk": "gradio",
        "sdk_version": _pinned()["gradio"],
        "python_version": f'"{PYTHON}"',
        "app_file": "app.py",
        "suggested_hardware": is_.hardware,
        "hf_oauth": "true" if is_.login else "false",
        "license": "apache-2.0",
        "pinned": "false",
    }
    if is_.login:
        head["hf_oauth_scopes"] = "[manage-repos]"  # the owner pushes runs from the app
    top = "\n".join(f"{name}: {value}" for name, value in head.items())
    settings = "\n".join(
        f"| `{name}` | {'secret' if secret else 'variable'} | {what} |" for name, secret, what in is_.settings
    )
    return (
        f"---\n{top}\n---\n\n# {is_.title}\n\n{is_.about}\n\nSet in the settings of this Space, under *Variables and "
        f"secrets*:\n\n| name | kind | what for |\n|---|---|---|\n{settings}\n\nMade with ftlab.\n"
    )


def refuse_secrets(folder: Path) -> None:
    """Raise FtlabError, naming the file, when something that looks like a token, key or password stands in one."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        found = _SECRETS.search(file.read_bytes())
        if found and file.relative_to(folder).as_posix() not in _MADE_UP:
            raise FtlabError(
                f"{file.relative_to(folder)} holds what looks like a secret, so nothing was uploaded",
                why=f"It begins with {found[0][:6].decode('ascii', 'replace')}.",
                try_="take it out; secrets belong into the settings of the Space",
            )


def _pinned() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
