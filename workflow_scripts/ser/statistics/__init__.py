"""CCC, its moments and bootstrap, PLDC's arithmetic: numpy and scipy on arrays, no files."""
