"""The two jobs: refresh one KB, and nightly housekeeping."""
# No `from __future__ import annotations`: Dagster reads the annotations of an op's parameters.

import dagster as dg

from kb_pipeline.defs.resources import open_database

ASSETS = frozenset(
    dg.AssetKey(name)
    for name in ("raw_documents", "documents", "chunks", "embeddings", "candidate_version", "published_version")
)
"""The assets of a KB."""

refresh_kb = dg.define_asset_job(
    "refresh_kb",
    selection=dg.AssetSelection.assets(*ASSETS),
    description="Refresh one KB: fetch, clean, chunk, embed, build a candidate, publish it if it passes its checks.",
    tags={dg.MAX_RUNTIME_SECONDS_TAG: str(24 * 3600)},
)


@dg.op(
    description="Remove data of versions that no KB keeps any more.",
    ins={"removed": dg.In(dg.Nothing)},
    required_resource_keys={"workspaces"},  # sends the run's heartbeats
)
def tidy_kbs(context: dg.OpExecutionContext) -> None:
    """Free the space of superseded versions, crashed candidates and stage tables; skip KBs that are being refreshed."""
    from kb_pipeline.operations.housekeeping import tidy_all
    from kb_pipeline.settings import load_settings

    freed = tidy_all(load_settings(), open_database(), context.run.run_id)
    context.add_output_metadata({"freed_bytes": freed.total, "by_kb": dg.MetadataValue.json(freed.as_json())})


@dg.op(
    description="Remove tenants whose grace is over, and what was cut off while it was being removed.",
    out=dg.Out(dg.Nothing),
)
def remove_deleted(context: dg.OpExecutionContext) -> None:
    """Remove what is due; log what cannot be removed, which the next night tries again."""
    from kb_pipeline.defs.removal import DagsterHistory
    from kb_pipeline.operations.delete import remove_due
    from kb_pipeline.settings import load_settings

    history = DagsterHistory(context.instance)
    receipts = remove_due(load_settings(), open_database(), history)
    history.remove_orphans()
    context.add_output_metadata({"removed": len(receipts)})  # without keys, of which nothing may stay


@dg.job(description="Housekeeping over all KBs: remove what was deleted, prune old versions, free disk.")
def housekeeping() -> None:
    """Remove what was deleted, then prune all KBs; nightly_housekeeping schedules it."""
    tidy_kbs(remove_deleted())
