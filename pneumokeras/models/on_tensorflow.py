"""Import this before Keras: another backend than TensorFlow is refused here, in one line."""

from pneumokeras.core.backend import require_tensorflow

require_tensorflow()
