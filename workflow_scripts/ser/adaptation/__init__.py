"""Adaptive pre-training by masked prediction: TAPT, and PAPT with a vector per speaker."""
