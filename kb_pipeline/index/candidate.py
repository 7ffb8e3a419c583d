"""Builds the candidate of a KB's next version: unseen by readers, proven, on disk, pinned."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from kb_pipeline.index.build import IndexChange, build_index, index_name, index_schema
from kb_pipeline.index.gates import Gate, check_version
from kb_pipeline.index.search import Hit, search_version
from kb_pipeline.model import EmbeddingModel, ReportProgress, StageReport
from kb_pipeline.spec import KbSpec
from kb_pipeline.storage import fsync_tree, write_durably
from kb_pipeline.tables import CHUNKS, DOCUMENTS, PAGES, KbStore, LanceTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INDEX_VERSION = "1"
"""Raise it when the same chunks would give another index."""


class ModelCalls(Protocol):
    """What judging a candidate asks of the embedding model; a candidate that changes nothing asks nothing."""

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query."""

    def embed_chunks(self, rows: list[dict[str, Any]]) -> NDArray[np.float32]:
        """The vectors of chunks, from their title, headings and text."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A state of the tables that may become a version."""

    manifest: dict[str, Any]
    gates: tuple[Gate, ...]
    report: StageReport

    @property
    def unchanged(self) -> bool:
        """Whether it is the live version once more: then there is nothing to publish."""
        return not self.gates

    @property
    def status(self) -> str:
        """`candidate` may be published, `held` waits for approval, `failed` must not be published."""
        failed = [gate for gate in self.gates if not gate.passed]
        if not failed:
            return "candidate"
        return "held" if all(gate.holds for gate in failed) else "failed"


def build_candidate(
    store: KbStore,
    spec: KbSpec,
    model: EmbeddingModel,
    vectors: LanceTable,
    live: Mapping[str, Any] | None,
    model_calls: ModelCalls,
    code_versions: Mapping[str, str],
    run_id: str,
    progress: ReportProgress,
) -> Candidate:
    """Bring the index up to the chunks and judge the result.

    A candidate equal to the live version has no gates: nothing was written, nothing is to be published.
    """
    started = time.monotonic()
    index = store.tables.open_or_create(index_name(model.fingerprint), index_schema(model.dimension))
    change = build_index(store, index, vectors, progress)
    manifest = _manifest(store, spec, model, index, code_versions, run_id)
    gates: tuple[Gate, ...] = ()
    if live is None or manifest["content_sha256"] != live["content_sha256"]:

        def search(query: str) -> list[Hit]:
            return search_version(store, manifest, query, model_calls.embed_query)

        gates = tuple(check_version(store, manifest["tables"], live, spec.publish, search, model_calls.embed_chunks))
    return Candidate(manifest, gates, _report(change, time.monotonic() - started))


def pin_candidate(
    store: KbStore, manifest: dict[str, Any], number: int, live: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Tag every table of the candidate, so that cleanup keeps them, and force it to disk with its manifest."""
    manifest = {**manifest, "version": number}
    for pin in manifest["tables"].values():
        store.tables.open(pin["name"]).tag(f"v{number}", pin["version"])
    fsync_tree(store.paths.lance, _changed_since_ns(live))
    body = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode()
    write_durably(store.paths.versions / f"{number:06}.json", body)
    return manifest


def unpin_version(store: KbStore, manifest: Mapping[str, Any]) -> None:
    """Let cleanup take a version that is not wanted any more."""
    for pin in manifest.get("tables", {}).values():
        if store.tables.exists(pin["name"]):
            store.tables.open(pin["name"]).untag(f"v{manifest['version']}")
    (store.paths.versions / f"{manifest['version']:06}.json").unlink(missing_ok=True)


def _manifest(
    store: KbStore,
    spec: KbSpec,
    model: EmbeddingModel,
    index: LanceTable,
    code_versions: Mapping[str, str],
    run_id: str,
) -> dict[str, Any]:
    heads = {"pages": PAGES, "documents": DOCUMENTS, "chunks": CHUNKS, "index": index_name(model.fingerprint)}
    tables = {role: {"name": name, "version": store.tables.open(name).version} for role, name in heads.items()}
    documents = store.tables.open(DOCUMENTS).narrow(
        ["document_id", "document_hash", "language"], "outcome = 'document' AND duplicate_of IS NULL"
    )
    chunks = index.narrow(["chunk_id", "document_hash"])
    languages = documents["language"].value_counts(sort=True)
    return {
        "kb": str(spec.key),
        "created_at": datetime.now(UTC).isoformat(),
        "run_id": run_id,
        "tables": tables,
        "spec": spec.fingerprints(),
        "model": {"name": model.name, "fingerprint": model.fingerprint, "dimension": model.dimension},
        "code": {**code_versions, "index": INDEX_VERSION},
        "counts": {"documents": documents.height, "chunks": chunks.height},
        "languages": dict(languages.iter_rows()),
        "content_sha256": _content_sha256(
            model.fingerprint, documents.select("document_id", "document_hash").rows(), chunks.rows()
        ),
    }


def _content_sha256(model: str, documents: list[tuple[str, str]], chunks: list[tuple[str, str]]) -> str:
    """What a reader can find, as one hash: the same on every machine that built it from the same bytes and rules."""
    state = hashlib.sha256(f"{INDEX_VERSION} {model}\n".encode())
    for rows in (documents, chunks):
        for row in sorted(rows):
            state.update(" ".join(row).encode() + b"\n")
        state.update(b"\n")
    return state.hexdigest()


def _changed_since_ns(manifest: Mapping[str, Any] | None) -> int:
    """Files older than the live version were forced to disk when it was published."""
    if manifest is None:
        return 0
    # Minus a minute: file times come from a coarser clock.
    return int((datetime.fromisoformat(manifest["created_at"]).timestamp() - 60) * 1e9)


def _report(change: IndexChange, seconds: float) -> StageReport:
    return StageReport(
        "index",
        entered=change.rows,
        passed=change.rows,
        unchanged=change.rows - change.added,
        deleted=change.deleted,
        seconds=seconds,
    )
