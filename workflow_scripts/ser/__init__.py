"""Personalised speech emotion regression: the library behind the workflow (no Snakemake in it)."""
