"""The config folder as a package, for ``hydra.initialize_config_module("knexa.conf")``.

Hydra asks a package for its files. Those of the configs lie outside this one in a checkout, and in
another folder of it in a wheel, so that the name ``knexa.conf`` is given to a package there.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location

from knexa.config import folders
from knexa.config.compose import register_sweeps  # registers the resolvers of the configs, too

_FOLDER = folders.config_folder()
_SPEC = spec_from_file_location(
    __name__, _FOLDER / "__init__.py", submodule_search_locations=[str(_FOLDER)]
)
assert _SPEC is not None

register_sweeps()
# It is not executed: that would leave a compiled file among the configs.
sys.modules[__name__] = module_from_spec(_SPEC)
