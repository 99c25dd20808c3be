"""The time grid of speech encoders: 16 kHz samples, and frames of 25 ms every 20 ms."""

SAMPLE_RATE = 16_000  # Hz
HOP = 320  # samples from a frame to the next
WINDOW = 400  # samples that a frame sees
FRAMES_A_SECOND = SAMPLE_RATE // HOP
