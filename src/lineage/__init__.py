"""Questions about recorded models: verify them, compare them, and trace their inputs."""
