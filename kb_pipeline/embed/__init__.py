"""Embeds each distinct chunk text as one vector."""

from kb_pipeline.embed.embedder import open_embedder

__all__ = ["open_embedder"]
