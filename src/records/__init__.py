"""File formats: each module converts between values and bytes, without any I/O."""
