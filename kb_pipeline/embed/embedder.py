"""Opens embedders: a bundled model in OpenVINO, any other through sentence-transformers."""

from __future__ import annotations

from pathlib import Path

from kb_pipeline.embed.models import check_model, model_fingerprint
from kb_pipeline.embed.protocol import Embedder
from kb_pipeline.errors import UsageError

PRECISIONS = ("auto", "bf16", "fp32")
DEVICES = ("auto", "cpu", "cuda")


def open_embedder(model: str, precision: str = "auto", cache_dir: Path | None = None, device: str = "auto") -> Embedder:
    """Open an embedding model; raises UnknownModel, ModelNeedsExtra or DeviceUnavailable.

    A precision or a device that there is not raises UsageError.

    Args:
        model: `multilingual-e5-small`, `all-MiniLM-L6-v2`, or a sentence-transformers model on this machine.
        precision: `bf16` is faster where the CPU multiplies it natively, and `auto` takes it just there, on a GPU
            float16. Vectors of all may be mixed.
        cache_dir: where converted models are kept; that of the settings by default.
        device: where a sentence-transformers model runs; `auto` takes a GPU where there is one.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"embedding precision {precision!r} is unknown; allowed are auto, bf16 and fp32")
    if device not in DEVICES:
        raise UsageError(f"embedding device {device!r} is unknown; allowed are auto, cpu and cuda")
    card, fingerprint = check_model(model, device), model_fingerprint(model)
    is_bf16 = precision == "bf16" or (precision == "auto" and _has_native_bf16())
    if not card.is_bundled:
        from kb_pipeline.embed.local_models import LocalEmbedder

        on_cpu = "bf16" if is_bf16 else "fp32"
        on_gpu = "fp16" if precision == "auto" else precision
        return LocalEmbedder(card, fingerprint, device, on_cpu, on_gpu)
    from kb_pipeline.embed.bundled import BundledEmbedder

    return BundledEmbedder(card, fingerprint, is_bf16, cache_dir or _default_cache_dir())


def _has_native_bf16() -> bool:
    from kb_pipeline.embed.openvino import has_native_bf16

    return has_native_bf16()


def _default_cache_dir() -> Path:
    from kb_pipeline.settings import load_settings

    return load_settings().models_dir
