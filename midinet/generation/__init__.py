"""Composing with a trained model: prompts, grammar, sampling, output files."""
