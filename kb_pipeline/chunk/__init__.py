"""Splits documents into chunks that know their place in the document."""
