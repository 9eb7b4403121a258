"""Text from outside, escaped for where it is shown: one module per medium."""
