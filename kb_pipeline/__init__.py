"""A self-hosted knowledge-base factory: sources become atomic, versioned, searchable indexes, run by Dagster."""

__version__ = "0.1.0"
