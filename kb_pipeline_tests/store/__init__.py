"""Tests of kb_pipeline.store."""
