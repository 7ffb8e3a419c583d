"""Tests of kb_pipeline.control.tenancy."""
