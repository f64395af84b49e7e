"""Projects that have a store, for these tests too."""

from tests.support.stores import empty_store, project, weights

__all__ = ["empty_store", "project", "weights"]
