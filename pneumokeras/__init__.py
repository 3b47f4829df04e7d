"""From a folder of chest radiographs to a tuned, honestly evaluated and explained pneumonia classifier.

    import pneumokeras as pk

    splits = pk.load_splits("chest_xray", seed=7)
    result = pk.tune(pk.ResNet50HyperModel(), splits, max_trials=10)
    pk.evaluate(result.model, splits.test).report()

Names are loaded when they are first used, so that importing the package imports no TensorFlow.
Research software, not a medical device.
"""

from typing import Any

import lazy_loader

from pneumokeras.core.quiet import quiet_tensorflow, without_chatter

__version__ = "0.2.0.dev0"

# The stub `__init__.pyi` is the one list of public names.
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

quiet_tensorflow()


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    with without_chatter():
        return _load(name)
