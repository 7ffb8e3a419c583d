"""Holds what is on disk: paths, durable files, raw segments, Lance tables and manifests."""
