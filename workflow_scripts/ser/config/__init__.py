"""The config, checked against its schema, and what it names: encoders, ablations, calibration methods, grids."""
