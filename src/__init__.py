"""The core of the training pipeline: plain Python, no engine, no server."""
