"""Speech encoders, and the embeddings that they make of a shard."""
