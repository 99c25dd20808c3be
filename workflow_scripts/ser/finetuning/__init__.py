"""Encoders fine-tuned on the labels themselves, together with the head that reads them."""
