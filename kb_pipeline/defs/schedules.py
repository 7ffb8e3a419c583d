"""Housekeeping by the clock; a KB's own cron is data and so a sensor's."""

import dagster as dg

from kb_pipeline.defs.jobs import housekeeping

nightly_housekeeping = dg.ScheduleDefinition(
    name="nightly_housekeeping",
    job=housekeeping,
    cron_schedule="30 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Prunes versions beyond each KB's retention and frees disk.",
)
