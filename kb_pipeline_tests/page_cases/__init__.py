"""Small pages and sites written after public bug reports of crawlers, extractors and converters, and what must hold."""
