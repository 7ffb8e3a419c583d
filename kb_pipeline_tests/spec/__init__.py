"""Tests of kb_pipeline.spec."""
