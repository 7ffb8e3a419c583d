"""One dynamic partition a KB, named `tenant/kb`."""

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
"""A run with this tag set to `true` publishes what a check would hold; also for runs launched in the web UI."""

RETRY_TAG = f"{OPTION_TAGS}retry"
"""A run with this tag set to `true` asks for everything that failed, however often and recently it did."""

REQUEST_TAG = "kb/request"
"""The id of the request that a run was started for; see control.runs.requests."""

PLAN_TAGS = "kb/tenant."
"""With a plan's name: the tag whose value is the tenant, so that each plan limits its tenants' runs by itself."""


def tags_of(partition_key: str | None) -> dict[str, str]:
    """The tags of a run over that partition; none for a key that is no KB (the web UI validates nothing)."""
    if partition_key is None:
        return {}
    try:
        key = KbKey.parse(partition_key)
    except InvalidKey:
        return {}
    return {"kb/tenant": key.tenant, "kb/kb": key.kb}


def add_partition(instance: dg.DagsterInstance, key: KbKey) -> None:
    """Make the KB a partition; one that exists stays."""
    if not instance.has_dynamic_partition(str(knowledge_bases.name), str(key)):
        instance.add_dynamic_partitions(str(knowledge_bases.name), [str(key)])
