"""Imports LanceDB in two fifths of its time: without its REST catalogue, nor the checks of its own classes."""

from __future__ import annotations

import sys
import threading
from types import ModuleType

_IMPORTING = threading.Lock()
_UNUSED = ("lance_namespace_urllib3_client", "lance_namespace_urllib3_client.models", "lancedb.namespace")
"""The client of the REST catalogue: 700 generated modules."""


class _StubModule(ModuleType):
    """Stands for a module of classes that are imported and never used."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__module__": self.__name__})


def import_lancedb() -> ModuleType:
    """Return the module `lancedb`, imported by the first call.

    The checks of its classes read bytecode, to see that a method said to override another does; with Python 3.12
    LanceDB does without them.
    """
    with _IMPORTING:
        if "lancedb" in sys.modules:
            return sys.modules["lancedb"]
        for name in _UNUSED:
            sys.modules.setdefault(name, _StubModule(name))
        checks, unchecked = sys.modules.pop("overrides", None), ModuleType("overrides")
        vars(unchecked).update(override=lambda method: method, EnforceOverrides=object)
        sys.modules["overrides"] = unchecked
        try:
            import lancedb
        finally:
            del sys.modules["overrides"]
            sys.modules |= {"overrides": checks} if checks else {}
        module: ModuleType = lancedb
        return module
