"""A config as a file, before Snakemake reads it: data, not a program."""

import json
from pathlib import Path

import yaml

from ser.files import DataError


def check_plain(path: str | Path) -> None:
    """Raise DataError for a config that Snakemake would run code of, or that is neither JSON nor plain YAML.

    Snakemake hands YAML to YTE, which evaluates keys and values as Python where `__use_yte__` is set. A file that is
    not there is left to Snakemake.
    """
    try:
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
    if isinstance(config, dict) and "__use_yte__" in config:
        raise DataError(
            f"{path}: has the key '__use_yte__', with which Snakemake runs what stands in a config as Python; "
            "a config of this workflow is data: write the values out and remove the key"
        )
