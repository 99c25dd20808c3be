"""From predictions to tables: calibration by PLDC, the protocol's guard, scoring, shifts, scores of recordings."""
