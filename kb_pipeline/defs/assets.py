"""The six assets of a KB, one a stage: open, call, report."""
# No `from __future__ import annotations`: Dagster reads the annotations of an asset's parameters.

from typing import Any

import dagster as dg

from kb_pipeline.chunk.rules import CHUNK_VERSION
from kb_pipeline.clean.rules import CLEAN_VERSION
from kb_pipeline.defs.metadata import check_results, report_metadata, score_metadata
from kb_pipeline.defs.partitions import knowledge_bases
from kb_pipeline.defs.resources import Workspaces
from kb_pipeline.publish.candidate import INDEX_VERSION
from kb_pipeline.publish.integrity_gates import GATES

_common: dict[str, Any] = {"partitions_def": knowledge_bases, "owners": ["team:kb"], "group_name": "knowledge_base"}


@dg.asset(**_common, kinds={"scrapy", "parquet"}, pool="crawl")
def raw_documents(context: dg.AssetExecutionContext, workspaces: Workspaces) -> dg.MaterializeResult:
    """Exact bytes of every page that the KB's sources name, fetched politely, kept by SHA-256.

    An unchanged page (304, or the same bytes) costs no more than its request. A page that fails keeps its last good
    bytes; only proof (404, 410, robots, scope) removes one.
    """
    with workspaces.open(context) as kb:
        report = kb.fetch()
        metadata = report_metadata(report, kb.summary.sample("pages")) | {"raw_bytes": kb.summary.size_of("raw")}
        links = {f"source {name}": dg.MetadataValue.url(url) for name, url in kb.summary.links().items()}
    return dg.MaterializeResult(metadata=metadata | links)


@dg.asset(
    **_common,
    deps=[raw_documents],
    kinds={"trafilatura", "lance"},
    code_version=CLEAN_VERSION,
)
def documents(context: dg.AssetExecutionContext, workspaces: Workspaces) -> dg.MaterializeResult:
    """Readable Markdown of every raw document: title, language, headings, tables, code; or why there is none."""
    with workspaces.open(context) as kb:
        report = kb.clean()
        return dg.MaterializeResult(metadata=report_metadata(report, kb.summary.sample("documents")))


@dg.asset(**_common, deps=[documents], kinds={"python", "lance"}, code_version=CHUNK_VERSION)
def chunks(context: dg.AssetExecutionContext, workspaces: Workspaces) -> dg.MaterializeResult:
    """Spans of the documents that fit the embedding model's window, each with its place in the document."""
    with workspaces.open(context) as kb:
        report = kb.chunk()
        return dg.MaterializeResult(metadata=report_metadata(report, kb.summary.sample("chunks")))


@dg.asset(**_common, deps=[chunks], kinds={"openvino", "lance"}, pool="embed")
def embeddings(context: dg.AssetExecutionContext, workspaces: Workspaces) -> dg.MaterializeResult:
    """One vector for every distinct chunk text, from the tenant's cache if it was embedded before."""
    with workspaces.open(context) as kb:
        report = kb.embed()
        return dg.MaterializeResult(metadata=report_metadata(report) | {"model": kb.spec.embedding.model})


@dg.asset(
    **_common,
    deps=[embeddings],
    kinds={"lance"},
    code_version=INDEX_VERSION,
    check_specs=[
        dg.AssetCheckSpec(name, asset="candidate_version", description=promise, blocking=True)
        for name, promise in GATES.items()
    ],
)
def candidate_version(context: dg.AssetExecutionContext, workspaces: Workspaces) -> dg.MaterializeResult:
    """Next version, built where no reader sees it, read back and checked; a failed check stops publishing."""
    with workspaces.open(context) as kb:
        candidate = kb.build_candidate()
        metadata = report_metadata(candidate.report) | {
            "unchanged_since_live": candidate.unchanged,
            "status": "unchanged" if candidate.unchanged else candidate.status,
            "manifest": dg.MetadataValue.json(candidate.manifest.as_json()),
            "index_bytes": kb.summary.size_of("lance"),
            **score_metadata(candidate.manifest.scores),
        }
    return dg.MaterializeResult(metadata=metadata, check_results=check_results(candidate.gates, GATES, force=kb.force))


@dg.asset(**_common, deps=[candidate_version], kinds={"lance"})
def published_version(context: dg.AssetExecutionContext, workspaces: Workspaces) -> dg.MaterializeResult:
    """Version that readers see: the pointer moves in one transaction, or stays when nothing changed."""
    with workspaces.open(context) as kb:
        published = kb.publish()
        counts = kb.summary.live_counts()
    return dg.MaterializeResult(
        metadata={"dagster/row_count": counts.get("chunks", 0), **counts, **published.as_json()},
        data_version=dg.DataVersion(str(published.version)),
    )
