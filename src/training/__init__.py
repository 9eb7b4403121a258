"""From a training config and a dataset version to a registered model."""
