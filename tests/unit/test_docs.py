"""The documentation: links and anchors resolve, commands are ones that exist, generated pages are current, and Help
shows all of it and nothing else."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from types import ModuleType

import pytest
import yaml
from markdown_it import MarkdownIt
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ftlab.cli.main import build_parser
from ftlab.config import build_config
from ftlab.ui import help
from ftlab.ui.doors import access
from ftlab.ui.kit.safe_markdown import headings, links
from tests.conftest import ROOT

DOCS = ROOT / "ftlab" / "docs"
TEXTS = [
    *(ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", ROOT / "ftlab" / "data" / "checks" / "README.md"),
    *sorted(DOCS.glob("*.md")),
]
NAMES = [file.relative_to(ROOT).as_posix() for file in TEXTS]
PLACEHOLDERS = {"...", "COMMAND"}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(name: str):
    file = ROOT / name
    for target in links(file.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (file.parent / path).resolve() if path else file
        assert there.exists() and there.is_relative_to(ROOT), target
        if anchor:
            assert anchor in {mark for _, _, mark in headings(there.read_text(encoding="utf-8"))}, target


def code_blocks(text: str) -> list[tuple[str, str]]:
    """(language, code) of each code block of a page."""
    tokens = MarkdownIt("commonmark").parse(text)
    return [(token.info.strip(), token.content) for token in tokens if token.type in ("fence", "code_block")]


def commands(text: str) -> Iterator[list[str]]:
    """Every command line of a page, as words: those of its shell blocks, and those in the middle of a sentence."""
    fenced = [code for language, code in code_blocks(text) if language in ("bash", "sh", "")]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    inline = [re.sub(r"\s+", " ", code) for code in re.findall(r"`(python [^`]+)`", prose)]
    for line in [line for code in fenced for line in code.replace("\\\n", " ").splitlines()] + inline:
        if line.strip().startswith("python "):
            yield shlex.split(line, comments=True)


def unmarked(name: str) -> str:
    """The page `name` without the blocks that need what CI has not: `<!-- needs: ... -->` stands on the line above."""
    return re.sub(
        r"^<!-- needs: [^\n]+ -->\n(?P<indent> *)```.*?^(?P=indent)```$",
        "",
        (ROOT / name).read_text(encoding="utf-8"),
        flags=re.DOTALL | re.MULTILINE,
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_line_of_a_shell_block_is_a_command_that_is_checked_or_marked(name: str):
    """Checked: commands of python, below and in tests/integration/test_documented_commands.py, and the installation,
    which .ci/run does. Anything else stands in a block that is marked."""
    assert (ROOT / name).read_text(encoding="utf-8").count("<!-- needs:") == len(_marked(name))
    for language, code in code_blocks(unmarked(name)):
        for line in code.replace("\\\n", " ").splitlines() if language in ("bash", "sh") else ():
            assert not line.strip() or line.split()[0] == "python" or line.startswith(("pip install ", "#")), line


def _marked(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"^<!-- needs: [^\n]+ -->\n *```", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_one_that_exists_with_settings_that_exist(name: str):
    """Parsed here, so that every change is checked; run in tests/integration/test_documented_commands.py."""
    for words in commands((ROOT / name).read_text(encoding="utf-8")):
        if words[1:3] == ["-m", "ftlab"]:
            if PLACEHOLDERS & set(words):
                continue
            try:
                given = build_parser().parse_args(words[3:])
            except SystemExit as ended:
                assert ended.code == 0, words  # --help, --version
                continue
            if words[3] in ("train", "preflight"):
                build_config({}, given.set)
        elif words[1] == "-m":
            module = words[2].replace(".", "/")
            ours = words[2].split(".")[0] in ("tests", "ftlab")
            there = (ROOT / f"{module}.py").exists() or (ROOT / module / "__main__.py").exists()
            assert there if ours else importlib.util.find_spec(words[2]), words
        else:
            assert (ROOT / words[1]).exists(), words


@pytest.mark.parametrize("name", NAMES)
def test_python_in_the_pages_is_valid_and_runs_in_yaml_are_runs(name: str):
    for language, code in code_blocks((ROOT / name).read_text(encoding="utf-8")):
        if language == "python":
            ast.parse(re.sub(r"<(\w+)>", r"\1", code))
        elif language == "yaml":
            build_config(yaml.safe_load(code))


def test_commands_of_the_documentation_are_found():
    lines = [words for file in TEXTS for words in commands(file.read_text(encoding="utf-8"))]
    assert len([words for words in lines if words[1:3] == ["-m", "ftlab"]]) > 80


def _reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / ".ci" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_what_the_docstrings_and_settings_say():
    assert _reference().outdated() == [], "run: python .ci/reference.py"


def test_the_address_of_the_repository_is_set_in_one_place(monkeypatch):
    reference = _reference()
    monkeypatch.setattr(reference, "repository", lambda: "me/my-ftlab")
    names = set(reference.outdated())
    assert {"pyproject.toml", "ftlab/report/notebook.py"} < names and sum("notebooks/" in name for name in names) == 9
    written = {path.name: text for path, text in reference.files().items()}
    assert written["01_data.ipynb"].count("me/my-ftlab") == 2 and "OWNER" not in written["01_data.ipynb"]
    assert written["pyproject.toml"].count("me/my-ftlab/blob") == 2


def test_the_index_names_every_page_and_the_readme_is_short():
    assert {f"{name}.md" for name in help.pages() if name != help.INDEX} == set(links(help.pages()[help.INDEX].text))
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=help.routes()), follow_redirects=False)


def test_help_shows_every_page_and_its_links_lead_to_pages(client: TestClient):
    for name in help.pages():
        shown = client.get(f"/help/{'' if name == help.INDEX else name}")
        assert shown.status_code == 200 and "<!--" not in shown.text.split("</head>")[1]
        assert "default-src 'none'" in shown.headers["content-security-policy"]
        for target in re.findall(r'href="([^"]+)"', shown.text):
            path, _, anchor = target.partition("#")
            if path in ("../", "") or path.startswith("http"):
                continue
            there = help.pages()[help.INDEX if path == "./" else path]
            assert not anchor or anchor in {mark for _, _, mark in headings(there.text)}, (name, target)


def test_help_keeps_working_below_a_folder_and_without_the_slash(client: TestClient):
    assert client.get("/help").headers["location"] == "help/"
    assert not re.findall(r'(?:href|action)="/', client.get("/help/").text)


@pytest.mark.parametrize(
    "asked",
    ["nothing", "../config.py", "..%2fconfig", "%2e%2e%2f%2e%2e%2fREADME", "data.md", "README.md", "/etc/passwd"],
)
def test_help_shows_only_the_pages_that_ship(client: TestClient, asked: str):
    assert client.get(f"/help/{asked}").status_code == 404


def test_a_search_finds_sections_with_all_words_and_shows_what_was_typed_as_text(client: TestClient):
    hits = help.search("Strength WiSE-FT")
    assert ("methods#strength", "Methods") in [(hit.href, hit.title) for hit in hits]
    assert all("strength" in f"{hit.title}{hit.section}{hit.before}{hit.match}{hit.after}".lower() for hit in hits)
    assert help.search("wordthatisnowhere strength") == [] and help.search("  ") == []
    shown = client.get("/help/", params={"q": "<script>alert(1)</script>"})
    assert shown.status_code == 200 and "<script" not in shown.text and "&lt;script&gt;" in shown.text


def test_help_of_a_shared_app_is_behind_its_password(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FTLAB_PASSWORD", "a-long-password-1")
    who = access.for_shared("--share", in_notebook=False)
    behind = TestClient(Starlette(routes=help.routes(), **access.owner_door(who)))
    assert behind.get("/help/").status_code == 401


def test_words_beside_a_control_lead_to_a_heading_of_help():
    from ftlab.ui.tabs.preferences import tab as preferences
    from ftlab.ui.tabs.train import tab as train

    code = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "ftlab" / "ui").rglob("*.py"))
    targets = [*re.findall(r'page="([^"]+)"', code), *train._PAGES.values(), *preferences._PAGES.values()]
    assert len(targets) > 6
    for target in targets:
        name, _, anchor = target.partition("#")
        assert name in help.pages(), target
        assert not anchor or anchor in {mark for _, _, mark in headings(help.pages()[name].text)}, target
