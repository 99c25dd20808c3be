"""The loop that trains an encoder, whatever its task."""
