"""The same colour for the same thing, on every page and in every report; legible to the colour-blind (Okabe & Ito)."""

BASELINE, CURRENT, PINNED = "#8a94a0", "#2b83c6", "#E69F00"
LOST, GAINED, NEUTRAL = "#D55E00", "#009E73", "#8a94a0"
KINDS = {
    "float32 values": "#8a94a0",
    "integer codes": "#2b83c6",
    "map of zeros": "#56B4E9",
    "scales": "#E69F00",
    "biases": "#CC79A7",
    "container": "#5b6470",
}
"""Of bytes, by what they hold."""
