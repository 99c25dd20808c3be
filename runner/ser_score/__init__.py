"""Scores recordings by a bundle of a study of personalised speech emotion regression; needs nothing of the workflow."""

from ser_score.errors import BundleError, Rejected, UsageError
from ser_score.scorer import Scorer
from ser_score.scores import Score

__all__ = ["BundleError", "Rejected", "Score", "Scorer", "UsageError"]
__version__ = "0.1.0"
