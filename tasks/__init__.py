"""One Prefect task per step, each a single call into the core."""
