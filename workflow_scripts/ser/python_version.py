"""Which versions of Python the locked packages serve: asked before any import that could fail for want of one."""

import sys

# The first and the last; requires-python in pyproject.toml and the conda environments say the same.
SERVED = ((3, 11), (3, 13))


def explain_unserved(version: tuple = sys.version_info) -> str:
    """Why this Python cannot run the workflow, and what can; empty if it can."""
    if SERVED[0] <= tuple(version[:2]) <= SERVED[1]:
        return ""
    found, first, last = ("{}.{}".format(*numbers) for numbers in (version, *SERVED))
    return (
        f"Python {found} is not served by envs/requirements.txt: {first} to {last} are; "
        f"make the environment with one of those, as in `python{last} -m venv .venv`"
    )
