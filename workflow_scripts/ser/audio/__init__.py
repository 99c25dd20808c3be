"""Audio files as 16 kHz samples, with the facts and averaged MFCCs of each."""
