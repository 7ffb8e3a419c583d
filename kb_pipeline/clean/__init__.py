"""Turns raw bytes into readable documents, or gives the reason why not."""
