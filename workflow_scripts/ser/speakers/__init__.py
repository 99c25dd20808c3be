"""Speaker vectors of every kind: of utterances, averaged by speaker, taken from a file, permuted."""
