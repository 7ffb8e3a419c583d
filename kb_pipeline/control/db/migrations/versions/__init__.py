"""The revisions, each a module that Alembic loads; none is ever changed after a release."""
