"""Bundles: a trained ablation as one file that scores recordings without the workflow (`runner/`)."""
