"""Requests to object stores, by obstore; needs the extra `cloud`. Used by `src.storage.bucket`."""
