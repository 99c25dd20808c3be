"""Keras on torch, in a process that never imports TensorFlow.

Import this before anything that imports Keras. TensorFlow imported before a CUDA build of torch can end in a
segmentation fault, and Keras imports it on any backend where it is installed: 5 s and 0.5 GB of a job, to no use here.
"""

import os
import sys

if "tensorflow" in sys.modules or "keras" in sys.modules:
    raise ImportError("Keras or TensorFlow is there already: fine-tuning needs a process of its own")
os.environ["KERAS_BACKEND"] = "torch"
sys.modules["tensorflow"] = None  # Keras takes it for not installed

import torch  # noqa: E402, F401 - before Keras

import ser.lean_keras  # noqa: E402, F401
