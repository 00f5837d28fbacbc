"""What a link can leave out of a page with `?hide=`, and how it is called there."""

from core import settings

FOLLOWING = "Activations at the same bits"
"""The control of the activations' bits, which follow those of the weights as long as nobody wants otherwise."""

LABELS = {"activation_bits": FOLLOWING}

CONTROLS = {
    **{own.key: LABELS.get(own.name, own.label) for own in settings.of_network() if own.place in ("main", "beside")},
    "layers": "Layer by layer",
    "finer": "Finer settings",
    "training": "Fine-tuning (recovery)",
    "scenarios": "Scenarios",
    "lesson": "This box itself",
}
