"""The controls that ask what loss of accuracy is allowed, and how surely it is to hold on new images."""

import streamlit as st

from pages.choice import state

HELP = """What loses 1 pp on the validation images may lose more on others: by chance, and because the best of many
candidates and of many epochs is partly the luckiest. *None*: the allowed loss holds on validation. With a confidence
the loss, the optimism of having picked it and a margin for chance together stay within the allowed loss, so that it
holds on new images so often. The files are larger for it."""
CHOICES = {None: "None", 0.8: "80 %", 0.9: "90 %", 0.95: "95 %"}


ALLOWANCE = "w_allowance"
ALLOWED = "How many percentage points of accuracy may be lost on the validation images."
ALIKE = f"{ALLOWED} One value for Pruning, Quantization and Combination."


def allowed() -> float:
    """Asks for the accuracy that may be lost, a fraction: the same on every page that asks for it."""
    key = state.keep_widget(ALLOWANCE, st.session_state.get(ALLOWANCE, 1.0))
    st.number_input(
        "Allowed accuracy loss, 0.1 to 10 pp", 0.1, 10.0, step=0.1, key=key, persist_state="session", help=ALIKE
    )
    return allowance()


def allowance() -> float:
    """The same, where it was asked for."""
    return round(float(st.session_state[ALLOWANCE]) / 100, 6)


def control(key: str) -> float | None:
    """The confidence, in (0.5, 1), or None."""
    names = {label: confidence for confidence, label in CHOICES.items()}
    label = st.segmented_control(
        "Confidence level", list(names), default="None", required=True, key=key, persist_state="session", help=HELP
    )
    return names.get(label or "None")


def asked(confidence: float | None) -> dict[str, float]:
    """What it adds to a request: nothing where there is none, as requests were before."""
    return {} if confidence is None else {"confidence": confidence}
