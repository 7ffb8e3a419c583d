"""Builds and runs BERT encoders in OpenVINO; the only module that imports it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from numpy.typing import NDArray

from kb_pipeline.embed.weights import BertWeights

Ids = NDArray[np.int64]

_PARTS = ("query", "key", "value")


def build_encoder(weights: BertWeights) -> Any:  # noqa: ANN401
    """A graph from token ids and mask to unit vectors: BERT, mean over the tokens, L2 norm."""
    ids = ops.parameter([-1, -1], np.int64, name="input_ids")
    mask = ops.parameter([-1, -1], np.int64, name="attention_mask")
    weight = ops.convert(mask, np.float32)
    # What is padding gets a large negative score in every head and row of attention.
    padding = ops.multiply(ops.subtract(weight, np.float32(1)), np.float32(1e4))
    padding = ops.unsqueeze(padding, np.array([1, 2], np.int64))
    hidden = _embeddings(weights, ids)
    for layer in range(weights.layers):
        hidden = _layer(weights, f"encoder.layer.{layer}", hidden, padding)
    model = ov.Model([ops.result(_pool(hidden, weight))], [ids, mask], "encoder")
    for tensor, name in ((model.input(0), "input_ids"), (model.input(1), "attention_mask"), (model.output(0), "vectors")):
        tensor.get_tensor().set_names({name})
    return model


def save_encoder(model: Any, path: Path) -> None:  # noqa: ANN401
    """Write `path` (.xml) and the weights beside it, halved to float16: vectors stay within 1e-5."""
    ov.save_model(model, path, compress_to_fp16=True)


def has_native_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 itself; where it does not, float32 is faster."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class Encoder:
    """A compiled encoder: token ids and mask in, unit vectors out."""

    def __init__(self, path: Path, is_bf16: bool) -> None:
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if is_bf16 else "f32",
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time on all cores: batches are large enough for that
            "INFERENCE_NUM_THREADS": _allowed_cores(),
        }
        self._compiled = ov.Core().compile_model(path, "CPU", options)

    def runner(self) -> Callable[[Ids, Ids], NDArray[np.float32]]:
        """A function that runs batches one after the other; each thread takes its own."""
        request = self._compiled.create_infer_request()
        return lambda ids, mask: request.infer([ids, mask])[0].copy()


def _allowed_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _constant(array: NDArray[np.float32]) -> Any:  # noqa: ANN401
    return ops.constant(array, dtype=np.float32)


def _embeddings(weights: BertWeights, ids: Any) -> Any:  # noqa: ANN401
    words = ops.gather(_constant(weights.tensor("embeddings.word_embeddings.weight")), ids, np.int64(0))
    length = ops.gather(ops.shape_of(ids, "i64"), np.int64(1), np.int64(0))
    places = ops.range(np.int64(0), length, np.int64(1), "i64")
    positions = ops.gather(_constant(weights.tensor("embeddings.position_embeddings.weight")), places, np.int64(0))
    token_type = _constant(weights.tensor("embeddings.token_type_embeddings.weight")[:1])
    total = ops.add(ops.add(words, token_type), positions)
    return _norm(weights, "embeddings.LayerNorm", total)


def _layer(weights: BertWeights, name: str, hidden: Any, padding: Any) -> Any:  # noqa: ANN401
    heads = [_split_heads(_linear(weights, f"{name}.attention.self.{part}", hidden), weights.heads) for part in _PARTS]
    mixed = ops.scaled_dot_product_attention(*heads, padding)
    joined = ops.reshape(ops.transpose(mixed, np.array([0, 2, 1, 3])), np.array([0, 0, -1]), special_zero=True)
    attended = _linear(weights, f"{name}.attention.output.dense", joined)
    hidden = _norm(weights, f"{name}.attention.output.LayerNorm", ops.add(attended, hidden))
    widened = ops.gelu(_linear(weights, f"{name}.intermediate.dense", hidden), "ERF")
    return _norm(
        weights, f"{name}.output.LayerNorm", ops.add(_linear(weights, f"{name}.output.dense", widened), hidden)
    )


def _linear(weights: BertWeights, name: str, hidden: Any) -> Any:  # noqa: ANN401
    product = ops.matmul(hidden, _constant(weights.tensor(f"{name}.weight")), False, True)
    return ops.add(product, _constant(weights.tensor(f"{name}.bias")))


def _split_heads(hidden: Any, heads: int) -> Any:  # noqa: ANN401
    split = ops.reshape(hidden, np.array([0, 0, heads, -1]), special_zero=True)
    return ops.transpose(split, np.array([0, 2, 1, 3]))


def _norm(weights: BertWeights, name: str, hidden: Any) -> Any:  # noqa: ANN401
    centred = ops.mvn(hidden, np.array([-1]), True, weights.norm_epsilon, "INSIDE_SQRT")
    scaled = ops.multiply(centred, _constant(weights.tensor(f"{name}.weight")))
    return ops.add(scaled, _constant(weights.tensor(f"{name}.bias")))


def _pool(hidden: Any, weight: Any) -> Any:  # noqa: ANN401
    # The number of tokens drops out when the sum is brought to length 1.
    total = ops.reduce_sum(ops.multiply(hidden, ops.unsqueeze(weight, np.array([2]))), np.array([1]))
    return ops.normalize_l2(total, np.array([1]), 1e-12, "max")
