"""The core of the training pipeline: plain Python, no engine, no server."""

__version__ = "0.1.0"
