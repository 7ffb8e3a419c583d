"""The Dagster code location: `kb_pipeline.definitions`."""

import dagster as dg

from kb_pipeline.defs.assets import (
    candidate_version,
    chunks,
    documents,
    embeddings,
    published_version,
    raw_documents,
)
from kb_pipeline.defs.jobs import housekeeping, refresh_kb
from kb_pipeline.defs.reaper import reap_dead_runs
from kb_pipeline.defs.resources import Workspaces
from kb_pipeline.defs.schedules import nightly_housekeeping
from kb_pipeline.defs.sensors import catalogue_sync, due_refreshes, lost_refreshes, requested_refreshes

defs = dg.Definitions(
    assets=[raw_documents, documents, chunks, embeddings, candidate_version, published_version],
    jobs=[refresh_kb, housekeeping],
    schedules=[nightly_housekeeping],
    sensors=[catalogue_sync, due_refreshes, requested_refreshes, lost_refreshes, reap_dead_runs],
    resources={"workspaces": Workspaces()},
    # One process a run: a process a step would cost 2.4 s each.
    executor=dg.in_process_executor,
)
