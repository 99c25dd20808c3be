# The config before Snakemake reads it: which files it is, and that they are plain data.
#
# Needs   config.yaml, or the files that are given with --configfile
# Makes   nothing
#
# Files given with --configfile stand in the place of config.yaml. Snakemake by itself lays them over it, and in a clone
# of this repository every key that a user's file leaves out would silently be the demo's.
#
# Snakemake runs Python that stands in a config with the key `__use_yte__`, in a plan too. Files that are given with
# --configfile are read before this one: whoever names them there vouches for them.

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import update_config

ROOT = Path(workflow.current_basedir).parent
sys.path.insert(0, str(ROOT / "workflow_scripts"))

from ser.config import plain
from ser.files import DataError

if not workflow.modifier.skip_configfile:
    try:
        for path in workflow.overwrite_configfiles or ["config.yaml"]:
            plain.check_plain(path)
    except DataError as error:
        raise WorkflowError(str(error)) from None
    given, usual = workflow.overwrite_configfiles, Path("config.yaml").resolve()
    if given:  # nothing new, but in a module that was given no config
        update_config(config, workflow.config_settings.overwrite_config)
    if workflow.is_main_process and given and usual.is_file():
        if usual not in [path.resolve() for path in given]:
            logger.info(
                f"The config is {', '.join(path.name for path in given)} alone, without config.yaml. "
                "(To lay the one over the other name both after --configfile, config.yaml first.)"
            )
