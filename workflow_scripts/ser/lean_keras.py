"""Keras without pandas and scikit-learn, which it would import for a second of each job, to no use here.

Import this before anything that imports TensorFlow or Keras; both packages can be imported afterwards as ever.
"""

import os
import sys

# A folder that holds no keras.json: the user's could ask for another backend or number format, and would be written.
os.environ["KERAS_HOME"] = os.devnull
if "ser.lean_torch_keras" not in sys.modules:  # nor does the backend of the user's environment count
    os.environ["KERAS_BACKEND"] = "tensorflow"
OPTIONAL = [name for name in ("pandas", "sklearn") if name not in sys.modules]

sys.modules.update(dict.fromkeys(OPTIONAL))  # None: Keras takes them for not installed
try:
    import keras  # noqa: F401
finally:
    for name in OPTIONAL:
        del sys.modules[name]
