"""Splits documents into chunks that remember their place."""
