"""The six assets of a KB, one a stage: open, call, report."""
# No `from __future__ import annotations`: Dagster reads the annotations of an asset's parameters.

from collections.abc import Iterator
from typing import Any

import dagster as dg

from kb_pipeline.chunk.rules import CHUNK_VERSION
from kb_pipeline.clean.rules import CLEAN_VERSION
from kb_pipeline.control.runs.overview import count_held
from kb_pipeline.defs.metadata import (
    change_metadata,
    check_results,
    check_specs,
    none_held,
    published_metadata,
    report_metadata,
    score_metadata,
    size_metadata,
    unpublished,
    verdict_metadata,
)
from kb_pipeline.defs.partitions import knowledge_bases
from kb_pipeline.defs.resources import Workspaces, open_database
from kb_pipeline.publish.candidate import INDEX_VERSION
from kb_pipeline.publish.integrity_gates import GATES

_CandidateEvent = dg.MaterializeResult | dg.AssetCheckResult | dg.AssetObservation
_common: dict[str, Any] = {"partitions_def": knowledge_bases, "owners": ["team:kb"], "group_name": "knowledge_base"}


@dg.asset(**_common, kinds={"scrapy", "parquet"}, pool="crawl")
def raw_documents(context: dg.AssetExecutionContext, workspaces: Workspaces) -> dg.MaterializeResult:
    """Exact bytes of every page that the KB's sources name, fetched politely, kept by SHA-256.

    An unchanged page (304, or the same bytes) costs no more than its request. A page that fails keeps its last good
    bytes; only proof (404, 410, robots, scope) removes one.
    """
    with workspaces.open(context) as kb:
        report = kb.fetch()
        links = {f"source {name}": dg.MetadataValue.url(url) for name, url in kb.summary.links().items()}
        metadata = report_metadata(report, kb.summary.sample("pages"), kb.summary.failures("fetch"))
        return dg.MaterializeResult(metadata=links | metadata | size_metadata("raw", kb.summary.size_of("raw")))


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
        metadata = report_metadata(report, kb.summary.sample("documents"), kb.summary.failures("clean"))
        return dg.MaterializeResult(metadata=metadata)


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
    check_specs=check_specs("candidate_version", GATES, knowledge_bases),
)
def candidate_version(context: dg.AssetExecutionContext, workspaces: Workspaces) -> Iterator[_CandidateEvent]:
    """Next version, built where no reader sees it, read back and checked; a failed check stops publishing.

    A version that is held waits for `kb approve`: its run fails with the reason and that command.
    """
    with workspaces.open(context) as kb:
        candidate = kb.build_candidate()
        ended = kb.summary.ended()
        metadata = {
            "status": "unchanged" if candidate.unchanged else candidate.status,
            **change_metadata(None if candidate.unchanged else kb.summary.changes(candidate.manifest)),
            **report_metadata(candidate.report),
            **size_metadata("index", kb.summary.size_of("lance")),
            **score_metadata(candidate.manifest.scores),
            "manifest": dg.MetadataValue.json(candidate.manifest.as_json()),
        }
        held = none_held(count_held(open_database()))
    results = [*check_results(candidate.gates, GATES, force=kb.force), held]
    if ended is not None:
        # No materialization: the web UI would show the KB's partition as good.
        told = metadata | verdict_metadata(kb.key, ended)
        yield dg.AssetObservation("candidate_version", partition=context.partition_key, metadata=told)
        yield from results
        raise unpublished(kb.key, ended)
    yield dg.MaterializeResult(metadata=metadata, check_results=results)


@dg.asset(**_common, deps=[candidate_version], kinds={"lance"})
def published_version(context: dg.AssetExecutionContext, workspaces: Workspaces) -> dg.MaterializeResult:
    """Version that readers see: the pointer moves in one transaction, or stays when nothing changed."""
    with workspaces.open(context) as kb:
        before = kb.summary.live_version()
        published = kb.publish()
        counts = kb.summary.live_counts()
    return dg.MaterializeResult(
        metadata=published_metadata(published, before, counts),
        data_version=dg.DataVersion(str(published.version)),
    )
