# The config before Snakemake reads it: plain data, or nothing.
#
# Needs   config.yaml
# Makes   nothing
#
# Snakemake runs Python that stands in a config with the key `__use_yte__`, in a plan too. Files that are given with
# --configfile are read before this one: whoever names them there vouches for them.

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.current_basedir).parent
sys.path.insert(0, str(ROOT / "workflow_scripts"))

from ser.config import plain
from ser.files import DataError

if not workflow.modifier.skip_configfile:
    try:
        for path in ["config.yaml", *workflow.overwrite_configfiles]:
            plain.check_plain(path)
    except DataError as error:
        raise WorkflowError(str(error)) from None
