"""Describes a sentence-transformers model on this machine from its files; loads and downloads nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SUFFIXES = {".json", ".safetensors", ".bin", ".txt", ".model", ".jinja"}


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A directory that holds a sentence-transformers model."""

    directory: Path
    dimension: int
    max_tokens: int
    query_prefix: str
    passage_prefix: str
    files: tuple[Path, ...]


def find_local_model(name: str) -> LocalModel | None:
    """Return the model in the directory `name`, an absolute path, or of that name in the Hugging Face cache, or None.

    Relative paths are not accepted: the current folder must not decide what a name means, since opening a model may run
    its code.
    """
    named = Path(name).expanduser()
    is_local = named.is_absolute() and (named / "modules.json").is_file()
    directory = named if is_local else _find_cached(name)
    return _read_model(directory.resolve()) if directory is not None else None


def _find_cached(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for repository in (name, f"sentence-transformers/{name}"):
        try:
            found = try_to_load_from_cache(repository, "modules.json")
        except HFValidationError:  # the name is not a valid repository name
            continue
        if isinstance(found, str):
            return Path(found).parent
    return None


def _read_model(directory: Path) -> LocalModel:
    modules = [directory / module["path"] for module in _read_json(directory / "modules.json", [])]
    prompts = _read_json(directory / "config_sentence_transformers.json", {}).get("prompts") or {}
    passage = prompts.get("document") or prompts.get("passage") or ""
    files = tuple(sorted(path for path in directory.rglob("*") if path.suffix in _SUFFIXES and path.is_file()))
    return LocalModel(
        directory, _dimension(modules), _max_tokens(modules[0]), prompts.get("query") or "", passage, files
    )


def _dimension(modules: list[Path]) -> int:
    keys = ("out_features", "word_embedding_dimension", "embedding_dimension", "hidden_size", "dim", "d_model")
    for module in reversed(modules):  # the last module that changes the size decides
        config = _read_json(module / "config.json", {})
        for key in keys:
            if key in config:
                return int(config[key])
    raise ValueError(f"{modules[0].parent}: no configuration file of this model gives its dimension")


def _max_tokens(transformer: Path) -> int:
    configured = _read_json(transformer / "sentence_bert_config.json", {}).get("max_seq_length")
    tokenizer = _read_json(transformer / "tokenizer_config.json", {}).get("model_max_length")
    positions = _read_json(transformer / "config.json", {}).get("max_position_embeddings")
    limits = [int(limit) for limit in ([configured] if configured else [tokenizer, positions]) if limit]
    return min(limits, default=512)


def _read_json(path: Path, default: Any) -> Any:  # noqa: ANN401
    return json.loads(path.read_text("utf-8")) if path.is_file() else default
