"""Tests of kb_pipeline.defs."""
