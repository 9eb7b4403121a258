"""The command `llm-train`; see `cli.main`."""
