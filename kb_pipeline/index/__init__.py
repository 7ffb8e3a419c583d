"""Builds a candidate version, proves it, and searches what is published."""
