"""Ready-made fine-tuning of language models: the trainer `lora`, the evaluator `held-out-loss`."""
