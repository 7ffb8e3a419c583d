"""Tests of kb_pipeline.control.coordination."""
