"""List the models that the package can build, with their sizes, without importing TensorFlow.

`pneumokeras.models.backbones.BACKBONES`, `pneumokeras.models.reference_cnns.REFERENCE_CNNS` and
`pneumokeras.models.hypermodels.CompactCNNHyperModel` build them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

COMPACT_CNN = "compact-cnn"


@dataclass(frozen=True)
class KnownModel:
    """A model that users call by name.

    Attributes:
        name: its name for users.
        kind: `"backbone"` for a pretrained network under a head, `"compact"` for the small network whose size
            is searched, `"reference"` for a published network of fixed layers.
        image_size: side in pixels of the square radiographs it takes by default. A reference network takes no
            other.
    """

    name: str
    kind: Literal["backbone", "compact", "reference"]
    image_size: int

    @property
    def has_backbone(self) -> bool:
        """Whether it is a head on a backbone, whose weights and preprocessing can be chosen."""
        return self.kind == "backbone"

    @property
    def tunable(self) -> bool:
        """Whether `pneumokeras.tune` has anything to search in it."""
        return self.kind != "reference"


MODELS = {
    model.name: model
    for model in (
        KnownModel("resnet50", "backbone", 224),
        KnownModel("resnet50v2", "backbone", 224),
        KnownModel("efficientnetb0", "backbone", 224),
        KnownModel("densenet121", "backbone", 224),
        KnownModel("mobilenetv3small", "backbone", 224),
        KnownModel("resnet18", "backbone", 224),
        KnownModel("efficientnetlite0", "backbone", 224),
        KnownModel("efficientnetlite1", "backbone", 240),
        KnownModel("efficientnetlite2", "backbone", 260),
        KnownModel(COMPACT_CNN, "compact", 64),
        KnownModel("customcnn", "reference", 224),
        KnownModel("cnn-94", "reference", 100),
        KnownModel("cnn-v2", "reference", 100),
        KnownModel("pneumoniamnist-cnn", "reference", 28),
        KnownModel("baseline-cnn", "reference", 224),
    )
}
"""Every model by name, in the order that help texts list them."""
