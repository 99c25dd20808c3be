"""Where a figure comes from and why it changed: code digests, provenance, explain, compare, orphans."""
