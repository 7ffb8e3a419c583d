"""Opening embedders: conversion happens once, is light, and errors say what is allowed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kb_pipeline.embed import open_embedder
from kb_pipeline.embed.models import describe_model, model_fingerprint
from kb_pipeline.embed.protocol import Embedder
from kb_pipeline.embed.tokenizer import open_tokenizer
from kb_pipeline.errors import UnknownModel, UsageError
from kb_pipeline_tests.embed.conftest import BUNDLED, TEXTS

Opener = Callable[[str, str], Embedder]

SERVE = """
import sys
from pathlib import Path
from kb_pipeline.embed import open_embedder
assert not {"openvino", "tokenizers"} & set(sys.modules), "importing the folder must be cheap"
embedder = open_embedder("all-MiniLM-L6-v2", "auto", Path(sys.argv[1]))
assert embedder.embed_passages(["a", "b"]).shape == (2, 384)
print(*sorted({"torch", "transformers", "sentence_transformers"} & set(sys.modules)))
"""


def run_serving(models_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SERVE, str(models_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_serving_imports_neither_torch_nor_transformers(models_dir: Path) -> None:
    process = run_serving(models_dir)
    printed, complaint = process.communicate(timeout=120)
    assert (process.returncode, printed.strip()) == (0, ""), complaint


def test_two_processes_that_convert_at_once_both_end_well(tmp_path: Path) -> None:
    processes = [run_serving(tmp_path) for _ in range(2)]
    endings = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    assert [returncode for _, returncode in endings] == [0, 0], endings
    (converted,) = tmp_path.iterdir()
    assert {path.name for path in converted.iterdir()} == {"model.xml", "model.bin", "card.json"}


def test_a_model_is_converted_once(embedder: Opener, models_dir: Path) -> None:
    embedder("all-MiniLM-L6-v2", "auto")
    (converted,) = models_dir.glob("all-MiniLM-L6-v2-*")
    before = (converted / "model.bin").stat()
    open_embedder("all-MiniLM-L6-v2", "auto", models_dir)
    after = (converted / "model.bin").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import kb_pipeline.embed.openvino as engine

    def disk_full(model: object, path: Path) -> None:
        path.write_text("half a mod")
        raise OSError("No space left on device")

    monkeypatch.setattr(engine, "save_encoder", disk_full)
    with pytest.raises(OSError, match="No space left"):
        open_embedder("all-MiniLM-L6-v2", "auto", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_models_go_to_the_home_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KB_HOME", str(tmp_path))
    open_embedder("all-MiniLM-L6-v2")
    assert list(tmp_path.glob("models/all-MiniLM-L6-v2-*/model.xml"))


def test_an_unknown_model_names_what_is_allowed(tmp_path: Path) -> None:
    for name in ("gpt-7", "../../etc", str(tmp_path), "", "no such model, is there?"):
        with pytest.raises(UnknownModel, match="multilingual-e5-small and all-MiniLM-L6-v2"):
            open_embedder(name)


def test_an_unknown_precision_names_what_is_allowed() -> None:
    with pytest.raises(UsageError, match="'int8' is unknown; allowed are auto, bf16 and fp32"):
        open_embedder("all-MiniLM-L6-v2", "int8")


@pytest.mark.parametrize("model", BUNDLED)
def test_the_card_and_the_embedder_agree(embedder: Opener, model: str) -> None:
    card, ours = describe_model(model), embedder(model, "auto")
    assert (ours.name, ours.dimension, ours.max_tokens, ours.languages) == (
        card.name,
        card.dimension,
        card.max_tokens,
        card.languages,
    )


def test_fingerprints_tell_models_apart_but_not_precisions(embedder: Opener) -> None:
    fast, exact = (embedder("all-MiniLM-L6-v2", precision) for precision in ("bf16", "fp32"))
    assert fast.fingerprint == exact.fingerprint == model_fingerprint("all-MiniLM-L6-v2")
    assert fast.fingerprint != model_fingerprint("multilingual-e5-small")
    assert len(bytes.fromhex(fast.fingerprint)) == 16


def test_languages_are_what_the_models_were_made_for() -> None:
    languages = describe_model("multilingual-e5-small").languages
    assert languages is not None
    assert {"en", "de", "es", "zh", "ar", "hi"} <= languages
    assert len(languages) > 90
    assert describe_model("all-MiniLM-L6-v2").languages == frozenset({"en"})


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_directory_of_sentence_transformers_is_a_model(embedder: Opener, precision: str) -> None:
    directory = str(describe_model("all-MiniLM-L6-v2").directory)
    card, local = describe_model(directory), open_embedder(directory, precision)
    assert (card.dimension, card.max_tokens, card.languages) == (384, 256, None)
    expected = embedder("all-MiniLM-L6-v2", "fp32").embed_passages(TEXTS)
    assert (local.embed_passages(TEXTS) * expected).sum(axis=1).min() >= 0.999
    assert np.linalg.norm(local.embed_query("a question")) == pytest.approx(1, abs=1e-3)
    assert local.embed_passages([]).shape == (0, 384)
    assert open_tokenizer(directory).count("two words") == 2


def test_the_fingerprint_of_a_directory_follows_its_files(tmp_path: Path) -> None:
    source = describe_model("all-MiniLM-L6-v2").directory
    for path in source.rglob("*.json"):
        target = tmp_path / path.relative_to(source)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    before = model_fingerprint(str(tmp_path))
    assert before == model_fingerprint(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    assert model_fingerprint(str(tmp_path)) != before
