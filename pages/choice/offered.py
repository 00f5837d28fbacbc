"""What a link can leave out of a page with `?hide=`, and how it is called there."""

from core import settings

FOLLOWING = "Activations at the same bits"
"""The control of the activations' bits, which follow those of the weights as long as nobody wants otherwise."""

LABELS = {"activation_bits": FOLLOWING}

CONTROLS = {
    **{
        setting.key: LABELS.get(setting.name, setting.label)
        for setting in settings.of_network()
        if setting.place in ("main", "beside")
    },
    "layers": "Layer by layer",
    "finer": "Finer settings",
    "training": "Fine-tuning (recovery)",
    "scenarios": "Scenarios",
    "lesson": "Teacher mode itself",
}
