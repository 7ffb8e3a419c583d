"""Builds and runs BERT encoders in OpenVINO; the only module that imports it."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# OpenVINO reports its import to an analytics service, from a forked child, without consent. This package must not
# contact outside services; if the telemetry package cannot be imported, OpenVINO uses a stub that sends nothing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402
import openvino.opset13 as ops  # noqa: E402

from kb_pipeline.embed.batches import Batch  # noqa: E402
from kb_pipeline.embed.weights import BertWeights  # noqa: E402

_PARTS = ("query", "key", "value")


def build_encoder(weights: BertWeights) -> Any:  # noqa: ANN401
    """Build a graph from token ids and mask to unit vectors: BERT, mean over the tokens, L2 norm."""
    ids = ops.parameter([-1, -1], np.int64, name="input_ids")
    mask = ops.parameter([-1, -1], np.int64, name="attention_mask")
    weight = ops.convert(mask, np.float32)
    # Padding gets a large negative attention score in every head and row.
    padding = ops.multiply(ops.subtract(weight, np.float32(1)), np.float32(1e4))
    padding = ops.unsqueeze(padding, np.array([1, 2], np.int64))
    hidden = _embeddings(weights, ids)
    for layer in range(weights.layers):
        hidden = _layer(weights, f"encoder.layer.{layer}", hidden, padding)
    model = ov.Model([ops.result(_pool(hidden, weight))], [ids, mask], "encoder")
    for tensor, name in (
        (model.input(0), "input_ids"),
        (model.input(1), "attention_mask"),
        (model.output(0), "vectors"),
    ):
        tensor.get_tensor().set_names({name})
    return model


def save_encoder(model: Any, path: Path) -> None:  # noqa: ANN401
    """Write `path` (.xml) and, beside it, the weights as float16, which changes vectors by less than 1e-5."""
    ov.save_model(model, path, compress_to_fp16=True)


def has_native_bf16() -> bool:
    """Return whether this CPU multiplies bfloat16 natively; if not, float32 is faster."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class Encoder:
    """A compiled encoder: token ids and mask in, unit vectors out."""

    def __init__(self, path: Path, is_bf16: bool) -> None:
        self._streams = _allowed_cores()
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if is_bf16 else "f32",
            # One batch a core rather than all cores for one batch: no core waits for a busy one.
            "NUM_STREAMS": self._streams,
            "INFERENCE_NUM_THREADS": self._streams,
        }
        self._compiled = ov.Core().compile_model(path, "CPU", options)
        # The first request builds what all others share. Threads whose first requests came together waited for one
        # another without end: seen with OpenVINO 2026.4, 16 threads and two cores.
        one = np.ones((1, 1), dtype=np.int64)
        self._compiled.create_infer_request().infer([one, one])

    def run(self, batches: Iterable[Batch]) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Yield the rows of each batch and their vectors, in order; safe to call from several threads at once."""
        # Waits for requests instead of using callbacks: an OpenVINO thread that is still inside Python when the
        # interpreter ends would abort the process.
        idle: list[Any] = []
        running: deque[tuple[list[int], Any]] = deque()
        for rows, ids, mask in batches:
            if len(running) == self._streams:
                done, request = running.popleft()
                yield done, _result(request)
                idle.append(request)
            # Made when it is needed: a query is one batch and needs one.
            request = idle.pop() if idle else self._compiled.create_infer_request()
            request.start_async([ids, mask])
            running.append((rows, request))
        for rows, request in running:
            yield rows, _result(request)


def _result(request: Any) -> NDArray[np.float32]:  # noqa: ANN401
    request.wait()
    return np.array(request.get_output_tensor(0).data, dtype=np.float32)


def _allowed_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _constant(array: NDArray[np.float32]) -> Any:  # noqa: ANN401
    # Not copied: the vocabulary alone takes 400 MB.
    return ov.op.Constant(np.ascontiguousarray(array, dtype=np.float32), shared_memory=True)


def _embeddings(weights: BertWeights, ids: Any) -> Any:  # noqa: ANN401
    words = ops.gather(_constant(weights.tensor("embeddings.word_embeddings.weight")), ids, np.int64(0))
    length = ops.gather(ops.shape_of(ids, "i64"), np.int64(1), np.int64(0))
    position_ids = ops.range(np.int64(0), length, np.int64(1), "i64")
    position_weights = _constant(weights.tensor("embeddings.position_embeddings.weight"))
    positions = ops.gather(position_weights, position_ids, np.int64(0))
    token_type = _constant(weights.tensor("embeddings.token_type_embeddings.weight")[:1])
    total = ops.add(ops.add(words, token_type), positions)
    return _norm(weights, "embeddings.LayerNorm", total)


def _layer(weights: BertWeights, name: str, hidden: Any, padding: Any) -> Any:  # noqa: ANN401
    heads = [_split_heads(_linear(weights, f"{name}.attention.self.{part}", hidden), weights.heads) for part in _PARTS]
    attention = ops.scaled_dot_product_attention(*heads, padding)
    merged = ops.reshape(ops.transpose(attention, np.array([0, 2, 1, 3])), np.array([0, 0, -1]), special_zero=True)
    attended = _linear(weights, f"{name}.attention.output.dense", merged)
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
    # No division by the number of tokens: normalizing to length 1 cancels it.
    total = ops.reduce_sum(ops.multiply(hidden, ops.unsqueeze(weight, np.array([2]))), np.array([1]))
    return ops.normalize_l2(total, np.array([1]), 1e-12, "max")
