"""Tests of kb_pipeline.control.metering."""
