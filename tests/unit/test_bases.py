"""Bases that ftlab keeps: fetched from a package index as it is, or made of a GGUF file; once, whole, and said."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ftlab.cli.main import main
from ftlab.config import ModelConfig, build_config
from ftlab.errors import FtlabError, InputError
from ftlab.models.bases import known as kept
from ftlab.models.bases.get import check_kept, get_base, record_of, telling
from ftlab.models.bases.known import KNOWN
from ftlab.models.load import base_path, is_hub_id, load_base, load_tokenizer
from tests.conftest import zipped
from tests.package_index import Index
from tests.tiny_gguf import TEMPLATE, plain_tokenizer, tiny_model, write_gguf

PACKAGE, WHEEL = "ftlab-test-base", "ftlab_test_base-1.0-py3-none-any.whl"
IDS = torch.tensor([[5, 9, 300, 41, 7, 7, 12]])
_PIP = ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX", "CERT", "PROXY", "TRUSTED_HOST")
_UV = ("DEFAULT_INDEX", "INDEX_URL", "INDEX", "EXTRA_INDEX_URL", "FIND_LINKS")


@pytest.fixture(scope="module")
def source():
    return tiny_model()


@pytest.fixture(scope="module")
def tiny(source, tmp_path_factory):
    """A wheel of a megabyte with a tiny GGUF file in it."""
    file = write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", source)
    about = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n"
    content = zipped(
        {
            "ftlab_test_base/tiny.gguf": file.read_bytes(),
            "ftlab_test_base/filler": os.urandom(1_200_000),
            "ftlab_test_base-1.0.dist-info/METADATA": about,
            "ftlab_test_base-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "ftlab_test_base-1.0.dist-info/RECORD": "",
            "ftlab_test_base-1.0.dist-info/LICENSE": "the license",
        }
    )
    known = replace(
        KNOWN["smollm2"],
        name="tiny",
        package=PACKAGE,
        version="1.0",
        wheel=WHEEL,
        wheel_sha256=hashlib.sha256(content).hexdigest(),
        wheel_bytes=len(content),
        member="ftlab_test_base/tiny.gguf",
        gguf_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        gguf_bytes=file.stat().st_size,
        folder_bytes=2_000_000,
        precision="F32",
    )
    return known, content, file


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Bases of this test alone, and no settings of pip but those that the test makes."""
    for name in [*(f"PIP_{one}" for one in _PIP), *(f"UV_{one}" for one in _UV), "FTLAB_BASES"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("FTLAB_BASES", str(tmp_path / "bases"))
    return tmp_path / "bases"


@pytest.fixture
def index(tiny, monkeypatch):
    known, content, _ = tiny
    monkeypatch.setitem(KNOWN, "tiny", known)
    with Index(PACKAGE, WHEEL, content) as served:
        monkeypatch.setenv("PIP_INDEX_URL", served.url())
        yield served


def leftovers(folder: Path) -> list[str]:
    """What lies in the folder of bases beside bases and locks."""
    files = [file for file in folder.rglob("*") if file.is_file() and ".locks" not in file.parts]
    bases = [one.path for one in kept.all_kept()]
    names = [file.name for file in files if file.parent not in bases]
    return [name for name in names if name != "gguf_hashes.json"]


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def test_a_quickstart_says_what_it_will_do_only_when_its_base_is_available(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert main(["quickstart", "--base", "smollm2", "--workspace", str(tmp_path / "workspace")]) == 1
    printed = capsys.readouterr()
    assert "could not be fetched" in printed.err and "tunes" not in printed.out + printed.err


@pytest.mark.parametrize("as_json", [True, False], ids=["PEP 691", "PEP 503"])
def test_a_known_base_is_fetched_once_and_says_what_its_source_says(index, source, own_folder, as_json):
    index.json = as_json
    steps = []
    found = get_base("tiny", progress=lambda *step: steps.append(step))
    assert (found.precision, found.license, found.weights) == (
        "F32",
        "apache-2.0",
        sum(p.numel() for p in source.parameters()),
    )
    assert [step for step in steps if step[0] == "fetching tiny (MB)"][-1][1:] == (2, 2)  # 1.6 MB
    assert (found.path / "LICENSE").read_text() == "the license"
    assert leftovers(own_folder) == []  # neither the wheel nor the GGUF file
    model = load_base(ModelConfig(base="tiny", dtype="float32"), device="cpu")
    torch.testing.assert_close(logits(model), logits(source), atol=1e-5, rtol=1e-5)
    assert load_tokenizer("tiny").chat_template == TEMPLATE
    assert len(index.ranges) == 1
    assert not is_hub_id("tiny")


def test_loading_a_known_base_that_is_not_here_fetches_it_and_tells_how_far_it_is(index):
    steps = []
    with telling(lambda *step: steps.append(step[0])):
        load_tokenizer("tiny")
    assert "fetching tiny (MB)" in steps
    assert Path(base_path("tiny"), "config.json").exists()


def test_a_download_that_breaks_goes_on_from_where_it_was(index):
    index.cuts = [500_000, 0, 300_000]
    get_base("tiny")
    assert index.ranges == [None, "bytes=500000-", "bytes=500000-", "bytes=800000-"]


def test_a_download_that_a_person_ends_goes_on_the_next_time(index, own_folder):
    def stop(phase, done, total):
        if phase.startswith("fetching"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_base("tiny", progress=stop)
    part = own_folder / ".downloads" / f"{WHEEL}.part"
    size = part.stat().st_size
    assert 0 < size < len(index.content)
    get_base("tiny")
    assert index.ranges[-1] == f"bytes={size}-"


def test_a_get_that_is_killed_while_it_dequantizes_leaves_no_half_base(index, own_folder):
    def stop(phase, done, total):
        if phase.startswith("writing"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_base("tiny", progress=stop)
    assert kept.all_kept() == [] and leftovers(own_folder) == []
    # What a process leaves that is killed without a chance to tidy up.
    (own_folder / ".unfinished-tiny" / "base").mkdir(parents=True)
    (own_folder / ".unfinished-tiny" / "base" / "config.json").write_text("{}")
    get_base("tiny")
    assert [one.name for one in kept.all_kept()] == ["tiny"] and leftovers(own_folder) == []


def test_two_that_get_a_base_at_once_fetch_it_once(index):
    found, waited = [], []
    threads = [
        threading.Thread(target=lambda: found.append(get_base("tiny", progress=lambda *step: waited.append(step[0]))))
        for _ in range(2)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(120)
    assert len(found) == 2 and found[0] == found[1]
    assert len(index.ranges) == 1
    assert any("another process" in phase for phase in waited)


def test_a_damaged_download_is_refused_and_deleted(index, own_folder):
    good = index.content
    index.content, index.announced = good[:-1] + b"x", hashlib.sha256(good).hexdigest()
    with pytest.raises(FtlabError, match=r"not the file pinned for tiny.*deleted"):
        get_base("tiny")
    assert kept.all_kept() == [] and leftovers(own_folder) == []


def test_another_file_under_the_same_name_is_refused_before_it_is_downloaded(index):
    index.announced = "0" * 64
    index.agents = "httpx"  # pip would take it
    with pytest.raises(FtlabError, match="a different file named"):
        get_base("tiny")
    assert index.ranges == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"missing": True}, "the file is not there (404)"), ({"package": "other"}, "is not there (404)")],
)
def test_an_index_without_the_file_is_named_with_what_else_would_do(index, change, reason):
    for name, value in change.items():
        setattr(index, name, value)
    with pytest.raises(FtlabError) as caught:
        get_base("tiny")
    message = str(caught.value)
    assert f"127.0.0.1:{index.port}" in message and reason in message
    for way in ("--wheel FILE", "HuggingFaceTB/SmolLM2-135M-Instruct", "starter"):
        assert way in message


def test_an_index_that_does_not_answer_is_told_at_once_and_before_a_run_starts(tiny, monkeypatch):
    monkeypatch.setitem(KNOWN, "tiny", tiny[0])
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    began = time.monotonic()
    for ask in (lambda: check_kept("tiny"), lambda: get_base("tiny")):
        with pytest.raises(FtlabError, match=r"Tried: 127\.0\.0\.1:9: ") as caught:
            ask()
        assert "secret" not in str(caught.value)
    assert time.monotonic() - began < 20


def test_a_login_in_the_address_or_in_netrc_is_used_and_never_shown(index, monkeypatch, tmp_path, caplog, own_folder):
    index.login = "me:s3cret word"
    monkeypatch.setenv("PIP_INDEX_URL", index.url("me:wrong-s3cret"))
    with caplog.at_level("DEBUG"), pytest.raises(FtlabError, match="asks for a login") as caught:
        get_base("tiny")
    assert "s3cret" not in str(caught.value)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password wrong\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("PIP_INDEX_URL", index.url("me:s3cret%20word"))
    with caplog.at_level("DEBUG"):
        get_base("tiny")
    kept.remove("tiny")
    index.login = "me:inn3tr"
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password inn3tr\n")
    monkeypatch.setenv("PIP_INDEX_URL", index.url())
    with caplog.at_level("DEBUG"):
        get_base("tiny")
    assert "s3cret" not in caplog.text and "inn3tr" not in caplog.text
    written = [file.read_bytes() for file in own_folder.rglob("*") if file.is_file()]
    assert not any(b"s3cret" in text or b"inn3tr" in text for text in written)


def test_where_only_pip_is_let_in_pip_fetches_it(index, own_folder):
    index.agents = "pip/"
    assert get_base("tiny").name == "tiny"
    assert leftovers(own_folder) == []


@pytest.mark.parametrize("way", ["file index", "find-links", "--wheel", "extra index", "uv"])
def test_a_wheel_is_taken_from_wherever_it_lies(tiny, monkeypatch, tmp_path, way, index):
    known, content, _ = tiny
    folder = tmp_path / "mirror" / PACKAGE
    folder.mkdir(parents=True)
    (folder / WHEEL).write_bytes(content)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    wheel = None
    if way == "file index":
        (folder / "index.html").write_text(f'<a href="{WHEEL}#sha256={known.wheel_sha256}">{WHEEL}</a>')
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", (tmp_path / "mirror").as_uri())
    elif way == "find-links":
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
    elif way == "--wheel":
        wheel = folder / WHEEL
    elif way == "extra index":
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index.url())
    else:
        monkeypatch.delenv("PIP_INDEX_URL")
        monkeypatch.setenv("UV_INDEX", f"company={index.url()}")
        monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    assert get_base("tiny", wheel=wheel).name == "tiny"
    assert (folder / WHEEL).exists()  # what somebody put there stays


def test_a_base_that_is_removed_while_a_model_uses_it_stays_loaded_and_is_fetched_again(index, source):
    get_base("tiny")
    model = load_base(ModelConfig(base="tiny", dtype="float32"), device="cpu")
    assert kept.remove("tiny") > 100_000
    torch.testing.assert_close(logits(model), logits(source), atol=1e-5, rtol=1e-5)
    assert kept.all_kept() == []
    load_tokenizer("tiny")
    assert len(index.ranges) == 2


def test_a_base_that_is_being_fetched_is_not_removed(own_folder):
    with kept.held("tiny"), pytest.raises(FtlabError, match="Another process is fetching"):
        kept.remove("tiny")


def test_too_small_a_disk_is_told_before_anything_is_fetched(index, tiny, monkeypatch):
    monkeypatch.setitem(KNOWN, "tiny", replace(tiny[0], folder_bytes=10**18))
    with pytest.raises(FtlabError, match=r"needs 931,322,575 GB of disk.*FTLAB_BASES"):
        get_base("tiny")
    assert index.requests == []


def test_a_folder_that_cannot_be_written_to_is_named(index, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FTLAB_BASES", str(tmp_path / "file" / "bases"))
    with pytest.raises(FtlabError, match=r"could not be written to .*file/bases.*FTLAB_BASES=FOLDER"):
        get_base("tiny")


def test_a_gguf_file_that_is_not_there_is_not_taken_for_a_model_on_the_hub():
    with pytest.raises(InputError, match=r"no such model folder.*a GGUF file"):
        base_path("missing.gguf")


@pytest.mark.parametrize("quantized", [False, True], ids=["F32", "Q8_0"])
def test_a_gguf_file_is_a_base_that_answers_as_its_source(source, tmp_path, capfd, quantized):
    (tmp_path / "models").mkdir()
    file = write_gguf(tmp_path / "models" / "my model.gguf", source, quantized=quantized)
    capfd.readouterr()
    get_base(str(file))
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""  # no bars of transformers
    for base in (str(file), str(file.parent)):
        model = load_base(ModelConfig(base=base), device="cpu")
        near = 1.0 if quantized else 1e-4  # of logits up to 27
        assert (logits(model) - logits(source)).abs().max() < near
        assert record_of(base).precision == ("Q8_0" if quantized else "F32")
        assert record_of(base).license == "mit"
    assert [one.source for one in kept.all_kept()] == [str(file)]
    text = "Sort these words: pear, fig, 2026."
    assert load_tokenizer(str(file))(text).input_ids == plain_tokenizer().encode(text).ids


def test_a_gguf_file_that_is_gone_goes_on_as_the_base_it_became(source, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", source)
    name = get_base(str(file)).name
    file.rename(tmp_path / "elsewhere.gguf")
    torch.testing.assert_close(logits(load_base(ModelConfig(base=str(file)), device="cpu")), logits(source))
    assert not is_hub_id(str(file))
    # The same weights under another name are the same base.
    assert get_base(str(tmp_path / "elsewhere.gguf")).sha256 == kept.kept(name).sha256
    kept.remove(name)
    with pytest.raises(InputError, match="gone, and so is the base converted from it"):
        load_tokenizer(str(file))


def broken(source, folder: Path, how: str) -> Path:
    file = folder / "tiny.gguf"
    if how == "vocabulary":
        return write_gguf(file, source, architecture="vocabulary")
    if how == "family":
        return write_gguf(file, source, architecture="rwkv7")
    if how == "part":
        return write_gguf(file, source, split_count=3)
    if how == "part by name":
        return write_gguf(folder / "tiny-00001-of-00003.gguf", source)
    write_gguf(file, source)
    whole = file.read_bytes()
    sizes = {"cut": len(whole) - 1000, "cut in the header": 3000, "empty": 0}
    file.write_bytes(b"hello" * 1000 if how == "no GGUF" else whole[: sizes[how]])
    return file


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("vocabulary", "no weights"),
        ("family", r"rwkv7 models from GGUF.*llama, .*qwen3"),
        ("part", "one part of a split model"),
        ("part by name", "one part of a split model"),
        ("cut", "not a complete GGUF file"),
        ("cut in the header", "not a complete GGUF file"),
        ("empty", "not a complete GGUF file"),
        ("no GGUF", "not a complete GGUF file"),
    ],
)
def test_a_gguf_file_that_cannot_be_a_base_is_refused_in_one_sentence_before_a_run(source, tmp_path, how, words):
    file = broken(source, tmp_path, how)
    for ask in (check_kept, get_base):
        with pytest.raises(InputError, match=words):
            ask(str(file))
    assert kept.all_kept() == []


def test_of_several_gguf_files_in_a_folder_one_has_to_be_named(source, tmp_path):
    for name in ("q4.gguf", "q8.gguf"):
        write_gguf(tmp_path / name, source)
    with pytest.raises(InputError, match=r"several GGUF files.*q4\.gguf, q8\.gguf"):
        base_path(str(tmp_path))


def test_the_command_line_lists_what_is_kept_and_removes_it(index, source, tmp_path, capsys):
    file = write_gguf(tmp_path / "tiny.gguf", source, quantized=True)
    assert main(["base", "get", "tiny"]) == 0
    assert main(["base", "get", str(file)]) == 0
    capsys.readouterr()
    assert main(["base", "list"]) == 0
    listed = capsys.readouterr()
    lines = listed.out.splitlines()
    assert len(lines) == 2
    assert "tiny " in lines[0] and "float32 from F32" in lines[0] and "on the Python package index" in lines[0]
    assert " kB " in lines[1] and "float32 from Q8_0" in lines[1] and str(file) in lines[1]
    assert "Not downloaded: smollm2" in listed.err
    assert main(["base", "remove", lines[1].split()[0]]) == 0
    assert main(["base", "remove", "tinny"]) == 2
    assert "did you mean tiny?" in capsys.readouterr().err
    assert [one.name for one in kept.all_kept()] == ["tiny"]


def test_before_smollm2_is_here_its_size_is_known_without_a_network(own_folder):
    from ftlab.models.estimate import estimate, is_here

    assert not is_here(ModelConfig(base="smollm2"))
    config = build_config({"model": {"base": "smollm2"}}).resolved()
    found = estimate(config, torch.float32)
    assert found.total_parameters - found.trained_parameters == 134_515_008  # 49152 and 30 blocks of 576
    assert found.trained_parameters == 4_884_480  # r=16 on seven layers of 30 blocks: 16 * (in + out) each
    assert any("base get smollm2" in note for note in found.notes)
    assert not own_folder.exists()


def test_smollm2_is_no_toy_and_nothing_of_the_toys_is_mixed_in():
    from ftlab.ui.run_view.run import toy_banner
    from ftlab.ui.tabs.train.tab import _REPLAYED, BASES, _usual_replay

    assert "smollm2" in dict(BASES).values()
    assert toy_banner("smollm2") == ""
    assert [_usual_replay(path, "smollm2") for path in _REPLAYED] == ["auto", ""]


@pytest.mark.real
def test_smollm2_from_the_package_index_knows_the_capital_of_france(tmp_path, monkeypatch):
    monkeypatch.undo()  # the settings of pip, and the folder in which CI keeps the base
    if not record_of("smollm2"):
        monkeypatch.setenv("FTLAB_BASES", str(tmp_path / "real"))
    found = get_base("smollm2")
    assert found.precision == "Q4_1"
    tokenizer, model = load_tokenizer("smollm2"), load_base(ModelConfig(base="smollm2"), device="cpu")
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    made = model.generate(**asked, max_new_tokens=16, do_sample=False)
    assert "Paris" in tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)
