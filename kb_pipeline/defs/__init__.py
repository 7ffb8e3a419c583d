"""Dagster's view of the pipeline: partitions, assets, checks, jobs, schedules and sensors; no logic."""
