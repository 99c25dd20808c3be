"""A config as a file, before Snakemake reads it: data, not a program."""

import json
import os
from pathlib import Path

import yaml

from ser.files import DataError, check_regular

MOST_BYTES = 10_000_000
MOST_VALUES = 100_000  # a YAML alias stands for a value once more: nine lines of them for a thousand million
DEEPEST = 50


def check_plain(path: str | Path) -> None:
    """Raise DataError for a config that Snakemake would run code of, or that is neither JSON nor plain YAML.

    Snakemake hands YAML to YTE, which evaluates keys and values as Python where `__use_yte__` is set. A file that is
    not there is left to Snakemake.
    """
    check_regular(path)
    try:
        if os.path.getsize(path) > MOST_BYTES:
            raise DataError(f"{path}: is larger than a config can be ({MOST_BYTES // 1_000_000} MB)")
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text in UTF-8 ({error})") from error
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        pass
    else:
        return
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: is neither JSON nor plain YAML ({error})") from error
    check_size(config, path)
    if isinstance(config, dict) and "__use_yte__" in config:
        raise DataError(
            f"{path}: has the key '__use_yte__', with which Snakemake runs what stands in a config as Python; "
            "a config of this workflow is data: write the values out and remove the key"
        )


def check_size(config, path: str | Path = "config") -> None:
    """Raise DataError for a config of more values than any study has, or nested without end."""
    left = MOST_VALUES

    def count(value, depth: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise DataError(f"{path}: has more than {MOST_VALUES:,} values, those of YAML's aliases included")
        if depth > DEEPEST:
            raise DataError(f"{path}: is nested more than {DEEPEST} deep")
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            count(item, depth + 1)

    count(config, 0)
