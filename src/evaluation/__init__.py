"""From a registered model to its evaluation."""
