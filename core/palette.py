"""The same colour for the same thing, on every page and in every report; legible to the colour-blind (Okabe & Ito)."""

BASELINE, CURRENT, PINNED = "#8a94a0", "#2b83c6", "#E69F00"
LOST, GAINED, NEUTRAL = "#D55E00", "#009E73", "#8a94a0"
KINDS = {
    "float32 values": "#8a94a0",
    "integer codes": "#2b83c6",
    "map of zeros": "#56B4E9",
    "scales": "#E69F00",
    "scales and shifts": "#F0E442",
    "codebooks": "#009E73",
    "biases": "#CC79A7",
    "container": "#5b6470",
}
"""Of bytes, by what they hold, as the ledger and its JSON name it."""
KIND_NAMES = {"integer codes": "quantized values", "map of zeros": "sparsity mask", "container": "header"}
"""Where the field has another name for such bytes: what somebody reads."""
NAMED_KINDS = {KIND_NAMES.get(kind, kind): colour for kind, colour in KINDS.items()}
