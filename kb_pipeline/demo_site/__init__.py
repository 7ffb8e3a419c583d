"""Serves the bundled sample site that `kb demo` crawls."""
