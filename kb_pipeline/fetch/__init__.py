"""Gets what a source names and keeps the raw bytes."""
