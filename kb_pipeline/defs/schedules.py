"""Schedules housekeeping; a KB's own cron is data, so a sensor evaluates it."""

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
