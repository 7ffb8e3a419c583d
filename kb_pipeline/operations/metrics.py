"""The control plane's figures as metrics, named by the conventions of Prometheus: base units, one prefix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kb_pipeline.control.metering.report import UsageRecord
from kb_pipeline.control.runs.figures import Figures, KbFigures
from kb_pipeline.version import __version__

_PAGE_OUTCOMES = {
    "out": "fetched", "unchanged": "unchanged", "rejected": "rejected", "failed": "failed", "deleted": "deleted",
}  # fmt: skip
"""How a refresh's report of the fetch stage counts pages, and what an outcome is called."""
_OF_KB: Mapping[str, tuple[str, Callable[[KbFigures], float | None]]] = {
    "kb_documents": ("Documents of the live version.", lambda kb: kb.documents),
    "kb_chunks": ("Chunks of the live version.", lambda kb: kb.chunks),
    "kb_failures": ("Pages that could not be turned into text.", lambda kb: kb.failures),
    "kb_held_versions": ("Versions that wait for approval.", lambda kb: kb.held),
    "kb_well": ("1 unless the newest refresh failed, was interrupted or is held.", lambda kb: float(kb.is_well)),
    "kb_version_age_seconds": ("Since the live version was published.", lambda kb: kb.version_age_s),
    "kb_refresh_age_seconds": ("Since the newest refresh ended, or began.", lambda kb: kb.refresh_age_s),
}
_OF_USAGE: Mapping[str, tuple[str, Callable[[UsageRecord], float]]] = {
    "kb_usage_pages": ("Pages requested.", lambda used: used.pages),
    "kb_usage_bytes": ("Bytes received.", lambda used: used.bytes),
    "kb_usage_tokens": ("Tokens of models.", lambda used: used.tokens),
    "kb_usage_seconds": ("Seconds of work.", lambda used: used.seconds),
    "kb_usage_cost": ("What it cost, in the currency of the plans' prices.", lambda used: used.cost),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric with its samples, one for each set of labels."""

    name: str
    """Without `_total`, which the format adds to counters."""
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...]
    samples: Sequence[tuple[tuple[str, ...], float]]
    """The values of the labels, and the figure."""


def as_metrics(figures: Figures) -> Iterator[Metric]:
    """Yield the metrics of what the control plane says."""
    yield Metric("kb_build_info", "gauge", "The release that answers.", ("version",), [((__version__,), 1)])
    states = [((status,), float(count)) for status, count in sorted(figures.states.items())]
    yield Metric("kb_kbs", "gauge", "KBs in each state.", ("status",), states)
    for name, (told, figure) in _OF_KB.items():
        found = [((kb.tenant, kb.kb), value) for kb in figures.kbs if (value := figure(kb)) is not None]
        yield Metric(name, "gauge", told, ("tenant", "kb"), found)
    yield from _of_stages(figures.kbs)
    waiting = [((queue.tenant,), float(queue.waiting)) for queue in figures.queues]
    yield Metric("kb_queue_depth", "gauge", "Refreshes that were asked for and wait.", ("tenant",), waiting)
    oldest = [((queue.tenant,), queue.oldest_s) for queue in figures.queues]
    yield Metric("kb_queue_oldest_seconds", "gauge", "How long the oldest of them has waited.", ("tenant",), oldest)
    for name, (told, used) in _OF_USAGE.items():
        sums = [((row.tenant, row.operation or ""), value) for row in figures.usage if (value := used(row))]
        yield Metric(name, "counter", told, ("tenant", "operation"), sums)


def _of_stages(kbs: Iterable[KbFigures]) -> Iterator[Metric]:
    seconds, pages, chunks = [], [], []
    for kb in kbs:
        for stage, report in kb.stages.items():
            seconds.append(((kb.tenant, kb.kb, stage), float(report["seconds"])))
        if fetch := kb.stages.get("fetch"):
            pages += [((kb.tenant, kb.kb, told), float(fetch[name])) for name, told in _PAGE_OUTCOMES.items()]
        if embed := kb.stages.get("embed"):
            computed = embed.get("embedded", 0)
            chunks.append(((kb.tenant, kb.kb, "computed"), float(computed)))
            chunks.append(((kb.tenant, kb.kb, "reused"), float(embed["out"] + embed["unchanged"] - computed)))
    last = "of the newest refresh that ended"
    yield Metric("kb_stage_seconds", "gauge", f"Seconds of each stage {last}.", ("tenant", "kb", "stage"), seconds)
    yield Metric("kb_refresh_pages", "gauge", f"Pages {last}.", ("tenant", "kb", "outcome"), pages)
    yield Metric("kb_refresh_embeddings", "gauge", f"Embeddings {last}.", ("tenant", "kb", "origin"), chunks)
