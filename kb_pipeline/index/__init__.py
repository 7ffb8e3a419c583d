"""Makes a version searchable and reads it: search, documents, differences, exports."""
