"""Dynamic partitions, one a KB, named `tenant/kb`, and the tags of runs."""

from __future__ import annotations

import dagster as dg

from kb_pipeline.errors import InvalidKey
from kb_pipeline.model import KbKey

knowledge_bases = dg.DynamicPartitionsDefinition(name="knowledge_bases")

PARTITION_TAG = "dagster/partition"
"""Dagster's tag for the partition of a run."""

OPTION_TAGS = "kb/"
"""With the name of an option: the tag that turns it on."""
FORCE_TAG = f"{OPTION_TAGS}force"
"""A run with this tag set to `true` publishes what a check would hold; it works in the web UI too."""

RETRY_TAG = f"{OPTION_TAGS}retry"
"""A run with this tag set to `true` requests everything that failed, however often and recently it did."""

REQUEST_TAG = "kb/request"
"""The id of the request that a run was started for; see control.runs.requests."""

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


def add_partition(instance: dg.DagsterInstance, key: KbKey) -> None:
    """Add the KB's partition unless it exists."""
    if not instance.has_dynamic_partition(str(knowledge_bases.name), str(key)):
        instance.add_dynamic_partitions(str(knowledge_bases.name), [str(key)])
