"""Tests of kb_pipeline.control.db."""
