"""PyArrow without pandas, which it would import for 0.3 s of each job, to no use here."""

import sys

import numpy as np
import pyarrow as pa


class _Absent:
    @staticmethod
    def find_spec(name: str, path=None, target=None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def hide_pandas() -> None:
    """Let PyArrow, which looks for pandas once in its Python and once in its C++ part, find none in this process.

    Anything else can import pandas afterwards; PyArrow goes on without: no `to_pandas`.
    """
    sys.meta_path.insert(0, _Absent)
    try:
        pa.chunked_array([np.zeros(1)]).to_numpy()
    finally:
        sys.meta_path.remove(_Absent)
