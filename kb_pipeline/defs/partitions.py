"""Dynamic partitions, one a KB, named `tenant/kb`, and the tags of runs."""

from __future__ import annotations

import re
from collections.abc import Iterable

import dagster as dg

from kb_pipeline.errors import InvalidKey
from kb_pipeline.model import KbKey

knowledge_bases = dg.DynamicPartitionsDefinition(name="knowledge_bases")

PARTITION_TAG = "dagster/partition"
"""Dagster's tag for the partition of a run."""

NAMES_NO_KB = (
    "the run names no KB: choose a partition, tenant/kb; on the command line "
    """--tags '{"dagster/partition": "acme/handbook"}' or --partition acme/handbook"""
)

OPTION_TAGS = "kb/"
"""With the name of an option: the tag that turns it on."""
FORCE_TAG = f"{OPTION_TAGS}force"
"""A run with this tag set to `true` publishes what a check would hold; it works in the web UI too."""

RETRY_TAG = f"{OPTION_TAGS}retry"
"""A run with this tag set to `true` requests everything that failed, however often and recently it did; set to ids
(model.document_id) with commas between them, these keys."""

REQUEST_TAG = "kb/request"
"""The id of the request that a run was started for; see control.runs.requests."""

TRACE_TAG = "kb/traceparent"
"""The W3C trace context of the HTTP request that asked for the run, so that its trace can be found from the run."""

STATUS_TAG = "kb/status"
"""How the refresh of a run ended, as `kb status` says it: `held` is no crash."""

PLAN_TAGS = "kb/tenant."
"""The prefix, before a plan's name, of the tag whose value is the tenant: so each plan can limit its tenants' runs."""


def tags_of(partition_key: str | None) -> dict[str, str]:
    """Return the tags of a run over a partition; none for a key that is no KB, since the web UI validates nothing."""
    if partition_key is None:
        return {}
    try:
        key = KbKey.parse(partition_key)
    except InvalidKey:
        return {}
    return {"kb/tenant": key.tenant, "kb/kb": key.kb}


def option_tags(options: Iterable[str]) -> dict[str, str]:
    """Return the tags of a run's options, each `NAME`, which turns it on, or `NAME=VALUE`."""
    pairs = (option.partition("=") for option in options)
    return {f"{OPTION_TAGS}{name}": value or "true" for name, _, value in pairs}


def ids_of(tag: str | None) -> frozenset[str]:
    """Return the ids in the value of RETRY_TAG; none where it is no list of them."""
    return frozenset(each for each in (tag or "").split(",") if re.fullmatch(r"[0-9a-f]{32}", each))


def add_partition(instance: dg.DagsterInstance, key: KbKey) -> None:
    """Add the KB's partition unless it exists."""
    if not instance.has_dynamic_partition(str(knowledge_bases.name), str(key)):
        instance.add_dynamic_partitions(str(knowledge_bases.name), [str(key)])
