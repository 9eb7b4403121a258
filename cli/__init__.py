"""The terminal's way in: the command `llm-train`."""
