"""The corpus as people bring it, brought into manifests and labels: sheets, databases, recordings, the index."""
