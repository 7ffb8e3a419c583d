"""Tests of kb_pipeline.publish."""
