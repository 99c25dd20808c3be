"""What a run shows to people and other tools: report, model cards, exports."""
