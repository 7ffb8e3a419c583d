"""Tests of kb_pipeline.maintenance."""
