"""Keras on torch, in a process in which TensorFlow is not to be found.

Import this before anything that imports Keras. TensorFlow imported before a CUDA build of torch can end in a
segmentation fault, and Keras imports it on any backend where it is installed: 5 s and 0.5 GB of a job, to no use here.
"""

import os
import sys
from importlib.machinery import PathFinder

if "tensorflow" in sys.modules or "keras" in sys.modules:
    raise ImportError("Keras or TensorFlow is there already: fine-tuning needs a process of its own")


class WithoutTensorFlow(PathFinder):
    """Finds every module but that."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        hidden = fullname.partition(".")[0] == "tensorflow"
        return None if hidden else super().find_spec(fullname, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTensorFlow
os.environ["KERAS_BACKEND"] = "torch"
# Keras asks torch for a GPU. Asked of CUDA itself, none would work in the processes that several GPUs are given.
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"

import torch  # noqa: E402, F401 - before Keras

import ser.lean_keras  # noqa: E402, F401
