"""Heads: trained on stored features, tuned, and applied to a split."""
