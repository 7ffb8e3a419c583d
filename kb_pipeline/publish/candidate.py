"""Builds the candidate of a KB's next version: unseen by readers, proven, on disk, pinned."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kb_pipeline.errors import DamagedStore, GateFailed
from kb_pipeline.index.build import IndexChange, build_index, index_name, index_schema
from kb_pipeline.index.documents import KEPT, open_table
from kb_pipeline.index.search import search_version
from kb_pipeline.model import EmbeddingModel, ReportProgress, StageReport
from kb_pipeline.publish.integrity_gates import Contents, Gate, failed_gates, read_back, structural_gates
from kb_pipeline.publish.probe_queries import Search
from kb_pipeline.publish.retrieval_gates import check_version
from kb_pipeline.spec.kb_file import KbSpec
from kb_pipeline.store.lance_table import CHUNKS, DOCUMENTS, PAGES, KbStore, LanceTable
from kb_pipeline.store.paths import fsync_tree, write_durably

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INDEX_VERSION = "1"
"""Raise it when the same chunks would give another index."""


class ModelCalls(Protocol):
    """What judging a candidate asks of the embedding model; a candidate that changes nothing asks nothing."""

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query."""

    def embed_query_with(self, model: Mapping[str, Any], text: str) -> NDArray[np.float32]:
        """The vector of a query to a version made with another model, as its manifest names it; may raise UnknownModel.

        Asked only of a live version whose model is not the KB file's any more.
        """

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
    recipe: Mapping[str, Any],
    run_id: str,
    progress: ReportProgress,
    rolled_back: Sequence[Mapping[str, Any]] = (),
) -> Candidate:
    """Bring the index up to the chunks and judge the result.

    A candidate equal to the live version has no gates: nothing was written, nothing is to be published.
    `rolled_back` are the manifests of versions newer than the live one that were live once and were undone.
    """
    started = time.monotonic()
    index = store.tables.open_or_create(index_name(model.fingerprint), index_schema(model.dimension))
    change = build_index(store, index, vectors, progress)
    manifest = _manifest(store, spec, model, index, recipe, run_id)
    gates: tuple[Gate, ...] = ()
    if live is None or manifest["content_sha256"] != live["content_sha256"]:
        search, search_live = _searches(store, manifest, live, model_calls)
        gates = tuple(
            check_version(
                store, manifest, model, live, rolled_back, spec.publish, search, search_live, model_calls.embed_chunks
            )
        )
        manifest |= {"scores": _scores(gates)}
    return Candidate(manifest, gates, _report(change, time.monotonic() - started))


def _searches(
    store: KbStore, manifest: Mapping[str, Any], live: Mapping[str, Any] | None, model_calls: ModelCalls
) -> tuple[Search, Search]:
    """The search that users get, over the candidate and over the live version, each with its own model.

    A query has one vector a model, however many versions it is put to.
    """
    live = live or manifest
    embed = embed_live = cache(model_calls.embed_query)
    if live["model"]["fingerprint"] != manifest["model"]["fingerprint"]:
        embed_live = cache(lambda text: model_calls.embed_query_with(live["model"], text))
    return (
        lambda query: search_version(store, manifest, query, embed),
        lambda query: search_version(store, live, query, embed_live),
    )


def _scores(gates: Sequence[Gate]) -> dict[str, float]:
    """How well the version answers, and the live one beside it."""
    judged = [gate.measured for gate in gates if gate.name in ("retrieval_kept", "golden_queries")]
    return {name: value for measured in judged for name, value in measured.items()}


def pin_candidate(
    store: KbStore, manifest: dict[str, Any], number: int, live: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Tag every table of the candidate, so that cleanup keeps them, and force it to disk with its manifest."""
    manifest = {**manifest, "version": number}
    for pin in manifest["tables"].values():
        store.tables.open(pin["name"]).tag(f"v{number}", pin["version"])
    fsync_tree(store.paths.lance, _changed_since_ns(live))
    write_manifest(store, manifest)
    return manifest


def write_manifest(store: KbStore, manifest: Mapping[str, Any]) -> None:
    """Keep the manifest beside the data, for whoever has the data alone."""
    body = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode()
    write_durably(_manifest_path(store, manifest["version"]), body)


def verify_version(store: KbStore, manifest: Mapping[str, Any]) -> None:
    """Read back what is about to be published, whatever was said of it before; raises GateFailed.

    What the manifest pins is opened anew, every column is read, and the rows must be those that it was hashed from. How
    well the version answers is judged once, when it is built.
    """
    if problem := _file_problem(store, manifest):
        raise GateFailed(store.key, [problem])
    model = EmbeddingModel(**manifest["model"])
    try:
        opened = {role: open_table(store, manifest, role) for role in manifest["tables"]}
        contents = read_back(opened)
        failed = failed_gates(list(structural_gates(opened, contents, manifest, model)))
    except DamagedStore as error:
        raise GateFailed(store.key, [str(error)]) from error
    if _stored_sha256(contents, manifest) != manifest["content_sha256"]:
        failed.append("content_sha256: the stored documents and chunks are not those of the manifest")
    if failed:
        raise GateFailed(store.key, failed)


def _file_problem(store: KbStore, manifest: Mapping[str, Any]) -> str | None:
    """What is wrong with the manifest on disk, which outlives the control plane."""
    path = _manifest_path(store, manifest["version"])
    try:
        written = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        return f"manifest: {path} cannot be read: {error}"
    return None if written == manifest else f"manifest: {path} is not what the control plane holds"


def _stored_sha256(contents: Contents, manifest: Mapping[str, Any]) -> str:
    documents = contents.kept.select("document_id", "document_hash").rows()
    chunks = contents.frames["index"].select("chunk_id", "document_hash").rows()
    return _content_sha256(manifest["model"]["fingerprint"], documents, chunks, manifest["code"]["index"])


def _manifest_path(store: KbStore, number: int) -> Path:
    return store.paths.versions / f"{number:06}.json"


def unpin_version(store: KbStore, manifest: Mapping[str, Any]) -> None:
    """Let cleanup take a version that is not wanted any more."""
    for pin in manifest.get("tables", {}).values():
        if store.tables.exists(pin["name"]):
            store.tables.open(pin["name"]).untag(f"v{manifest['version']}")
    _manifest_path(store, manifest["version"]).unlink(missing_ok=True)


def _manifest(
    store: KbStore,
    spec: KbSpec,
    model: EmbeddingModel,
    index: LanceTable,
    recipe: Mapping[str, Any],
    run_id: str,
) -> dict[str, Any]:
    heads = {"pages": PAGES, "documents": DOCUMENTS, "chunks": CHUNKS, "index": index_name(model.fingerprint)}
    tables = {role: {"name": name, "version": store.tables.open(name).version} for role, name in heads.items()}
    manifest = {
        "kb": str(spec.key),
        "created_at": datetime.now(UTC).isoformat(),
        "run_id": run_id,
        "tables": tables,
        "spec": spec.fingerprints(),
        "model": {"name": model.name, "fingerprint": model.fingerprint, "dimension": model.dimension},
        **recipe,
        "code": {**{stage: rules["version"] for stage, rules in recipe["rules"].items()}, "index": INDEX_VERSION},
    }
    return manifest | describe_content(store, manifest)


def describe_content(store: KbStore, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a manifest that follow from the rows of its tables: counts, languages, the hash of it all."""
    documents = open_table(store, manifest, "documents").read_columns(
        ["document_id", "document_hash", "language"], KEPT
    )
    chunks = open_table(store, manifest, "index").read_columns(["chunk_id", "document_hash"])
    return {
        "counts": {"documents": documents.height, "chunks": chunks.height},
        "languages": dict(documents["language"].value_counts(sort=True).iter_rows()),
        "content_sha256": _content_sha256(
            manifest["model"]["fingerprint"],
            documents.select("document_id", "document_hash").rows(),
            chunks.rows(),
            manifest["code"]["index"],
        ),
    }


def _content_sha256(
    model: str, documents: list[tuple[str, str]], chunks: list[tuple[str, str]], index_version: str = INDEX_VERSION
) -> str:
    """What a reader can find, as one hash: the same on every machine that built it from the same bytes and rules."""
    state = hashlib.sha256(f"{index_version} {model}\n".encode())
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
