"""The module `nni` where Trialflow is installed: that of trials, and `nni.experiment` besides.

This is one file and no package, so that it stands beside an installed NNI without touching it: of the two, Python
takes the package. Trials do not come by this file, for their path leads to the folder of their own `nni`.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location

from trialflow.sdk import SDK_FOLDER

_PACKAGE = SDK_FOLDER / "nni"
_SCRIPTING = SDK_FOLDER.parent / "scripting"
_spec = spec_from_file_location(
    "nni", _PACKAGE / "__init__.py", submodule_search_locations=[str(_PACKAGE), str(_SCRIPTING)]
)
assert _spec is not None
assert _spec.loader is not None
_module = module_from_spec(_spec)
# As the import system does it: a module stands there before it runs. If it fails, nothing is left of it.
sys.modules["nni"] = _module
_spec.loader.exec_module(_module)
