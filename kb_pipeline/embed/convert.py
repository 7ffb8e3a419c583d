"""Converts a bundled model for OpenVINO once, and keeps the result beside others in a directory."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from kb_pipeline.embed.models import ModelCard
from kb_pipeline.store.durable_files import fsync_path

_CONVERSION = "1"
"""Raise it when the same weights should give another file."""

_MODEL = "model.xml"


def converted_model(card: ModelCard, fingerprint: str, cache_dir: Path) -> Path:
    """Return the model's graph in `cache_dir`, converted first if it is not there.

    Several processes may do so at once: each builds its own copy unseen, the first to finish is kept.
    """
    directory = cache_dir / f"{card.name}-{fingerprint[:16]}-{_CONVERSION}"
    if not directory.is_dir():
        _convert(card, fingerprint, directory)
    return directory / _MODEL


def _convert(card: ModelCard, fingerprint: str, directory: Path) -> None:
    from kb_pipeline.embed.openvino import build_encoder, save_encoder
    from kb_pipeline.embed.weights import read_weights

    directory.parent.mkdir(parents=True, exist_ok=True)
    unseen = Path(tempfile.mkdtemp(prefix=".converting-", dir=directory.parent))
    try:
        save_encoder(build_encoder(read_weights(card)), unseen / _MODEL)
        about = {"name": card.name, "fingerprint": fingerprint, "conversion": _CONVERSION}
        (unseen / "card.json").write_text(json.dumps(about, indent=2), "utf-8")
        unseen.chmod(0o755)
        _switch(unseen, directory)
    finally:
        shutil.rmtree(unseen, ignore_errors=True)


def _switch(unseen: Path, directory: Path) -> None:
    for path in (*unseen.iterdir(), unseen):
        fsync_path(path)
    try:
        unseen.rename(directory)
    except OSError:
        if not directory.is_dir():
            raise
        return  # another process was first; its copy is as good
    fsync_path(directory.parent)
