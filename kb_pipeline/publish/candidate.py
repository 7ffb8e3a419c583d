"""Builds the candidate of a KB's next version: unseen by readers, proven, on disk, pinned."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Protocol

from kb_pipeline.errors import DamagedStore, GateFailed, InvalidManifest
from kb_pipeline.index.build import IndexChange, build_index, index_name, index_schema
from kb_pipeline.index.content import describe_content, hash_content
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import search_version
from kb_pipeline.model import EmbeddingModel, ReportProgress, StageReport
from kb_pipeline.publish.answer_threshold import answer_scores
from kb_pipeline.publish.integrity_gates import (
    ChunkText,
    Contents,
    Gate,
    failed_gates,
    read_back,
    structural_gates,
)
from kb_pipeline.publish.probe_queries import Search
from kb_pipeline.publish.retrieval_gates import check_version
from kb_pipeline.spec.kb_file import KbSpec
from kb_pipeline.store.durable_files import fsync_tree
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import (
    Manifest,
    Rules,
    TablePin,
    manifest_path,
    read_manifest,
    write_manifest,
)
from kb_pipeline.store.stage_tables import CHUNKS, DOCUMENTS, PAGES, ROLES
from kb_pipeline.store.table import LanceTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INDEX_VERSION = "1"
"""Raise it when the same chunks would give another index."""


class ModelCalls(Protocol):
    """What judging a candidate asks of the embedding model; a candidate that changes nothing asks nothing."""

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a query."""

    def embed_query_with(self, model: EmbeddingModel, text: str) -> NDArray[np.float32]:
        """Return the vector of a query to a version that another model made; may raise UnknownModel.

        Asked only of a live version whose model is not the KB file's any more.
        """

    def embed_chunks(self, chunks: Sequence[ChunkText]) -> NDArray[np.float32]:
        """Return the vectors of chunks."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What made the documents and chunks of a version: with it the same bytes become the same chunks again."""

    rules: Rules
    libraries: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A state of the tables that may become a version."""

    manifest: Manifest
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
    live: Manifest | None,
    model_calls: ModelCalls,
    recipe: Recipe,
    run_id: str,
    progress: ReportProgress,
    rolled_back: Sequence[Manifest] = (),
) -> Candidate:
    """Bring the index up to the chunks and judge the result.

    A candidate equal to the live version has no gates: nothing was written, nothing is to be published.
    `rolled_back` are the manifests of versions newer than the live one that were live once and were undone.
    """
    started = time.monotonic()
    index = store.tables.open_or_create(index_name(model.fingerprint), index_schema(model.dimension))
    change = build_index(store, index, vectors, progress)
    manifest = _describe(store, spec, model, recipe, run_id)
    gates: tuple[Gate, ...] = ()
    if live is None or manifest.content.sha256 != live.content.sha256:
        version = VersionReader(store, manifest)
        live_version = VersionReader(store, live) if live else None
        embed_query = cache(model_calls.embed_query)
        search, search_live = _searches(version, live_version, embed_query, model_calls)
        gates = tuple(
            check_version(
                version,
                model,
                live_version,
                [VersionReader(store, each) for each in rolled_back],
                spec.publish,
                search,
                search_live,
                model_calls.embed_chunks,
            )
        )
        scores = _scores(gates)
        if scores:  # where it cannot be searched, it cannot be asked either
            scores |= answer_scores(version, live, search, embed_query, _sentence_embedder(model_calls))
        manifest = replace(manifest, scores=scores)
    return Candidate(manifest, gates, _report(change, time.monotonic() - started))


def _sentence_embedder(model_calls: ModelCalls) -> Callable[[list[str]], NDArray[np.float32]]:
    """Return what embeds sentences: as chunks without title and headings."""
    return lambda texts: model_calls.embed_chunks([ChunkText("", (), text) for text in texts])


def _searches(
    version: VersionReader,
    live: VersionReader | None,
    embed: Callable[[str], NDArray[np.float32]],
    model_calls: ModelCalls,
) -> tuple[Search, Search]:
    """Return the search that users get, over the candidate and over the live version, each with its own model.

    A query has one vector a model, however many versions it is put to.
    """
    live = live or version
    theirs = live.manifest.model
    embed_live = embed
    if theirs.fingerprint != version.manifest.model.fingerprint:
        embed_live = cache(lambda text: model_calls.embed_query_with(theirs, text))
    return (
        lambda query: search_version(version, query, embed),
        lambda query: search_version(live, query, embed_live),
    )


def _scores(gates: Sequence[Gate]) -> dict[str, float]:
    """Collect how well the version answers, and the live one beside it."""
    judged = [gate.measured for gate in gates if gate.name in ("retrieval_kept", "golden_queries")]
    return {name: value for measured in judged for name, value in measured.items()}


def pin_candidate(store: KbStore, manifest: Manifest, number: int, live: Manifest | None) -> Manifest:
    """Tag every table of the candidate, so that cleanup keeps them, and force it to disk with its manifest."""
    manifest = manifest.numbered(number)
    for pin in manifest.tables.values():
        store.tables.open(pin.name).tags.put(f"v{number}", pin.version)
    fsync_tree(store.paths.lance, _changed_since_ns(live))
    write_manifest(store.paths, manifest)
    return manifest


def verify_version(store: KbStore, manifest: Manifest) -> None:
    """Read back what is about to be published, whatever was said of it before; raises GateFailed.

    What the manifest pins is opened anew, every column is read, and the rows must be those that it was hashed from. How
    well the version answers is judged once, when it is built.
    """
    if problem := _file_problem(store, manifest):
        raise GateFailed(store.key, [problem])
    version = VersionReader(store, manifest)
    try:
        opened = {role: version.table(role) for role in ROLES}
        contents = read_back(opened)
        failed = failed_gates(list(structural_gates(opened, contents, manifest, manifest.model)))
    except DamagedStore as error:
        raise GateFailed(store.key, [str(error)]) from error
    if _stored_sha256(contents, manifest) != manifest.content.sha256:
        failed.append("content_sha256: the stored documents and chunks are not those of the manifest")
    if failed:
        raise GateFailed(store.key, failed)


def _file_problem(store: KbStore, manifest: Manifest) -> str | None:
    """Say what is wrong with the manifest on disk, which outlives the control plane."""
    try:
        written = read_manifest(store.paths, manifest.version)
    except InvalidManifest as error:
        return f"manifest: {error.problem}"
    path = manifest_path(store.paths, manifest.version)
    return None if written == manifest else f"manifest: {path} is not what the control plane holds"


def _stored_sha256(contents: Contents, manifest: Manifest) -> str:
    documents = contents.kept.select("document_id", "document_hash").rows()
    chunks = contents.frames["index"].select("chunk_id", "document_hash").rows()
    return hash_content(manifest.model.fingerprint, manifest.code["index"], documents, chunks)


def _describe(store: KbStore, spec: KbSpec, model: EmbeddingModel, recipe: Recipe, run_id: str) -> Manifest:
    """Write down what stands at the heads of the tables."""
    names = {"pages": PAGES, "documents": DOCUMENTS, "chunks": CHUNKS, "index": index_name(model.fingerprint)}
    heads = {role: store.tables.open(name) for role, name in names.items()}
    return Manifest(
        kb=spec.key,
        version=0,
        created_at=datetime.now(UTC),
        run_id=run_id,
        tables={role: TablePin(names[role], head.version) for role, head in heads.items()},
        spec=spec.fingerprints(),
        model=model,
        code={stage: str(rules["version"]) for stage, rules in recipe.rules.items()} | {"index": INDEX_VERSION},
        content=describe_content(heads["documents"], heads["index"], model.fingerprint, INDEX_VERSION),
        rules=recipe.rules,
        libraries=recipe.libraries,
    )


def _changed_since_ns(live: Manifest | None) -> int:
    """Return the time before which all files were forced to disk, when the live version was published."""
    # Minus a minute: file times come from a coarser clock.
    return int((live.created_at.timestamp() - 60) * 1e9) if live else 0


def _report(change: IndexChange, seconds: float) -> StageReport:
    return StageReport(
        "index",
        entered=change.rows,
        passed=change.rows,
        unchanged=change.rows - change.added,
        deleted=change.deleted,
        seconds=seconds,
    )
