"""What the controls of the laboratories ask for, in words, and the way back to what was asked and answered before.

`SETTINGS` has, for each experiment whose request depends on controls, how each field of the request is said, and what
the controls show that ask for it. Which control asks for what is written beside it, in `pages.labs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import streamlit as st

from core import settings
from core.studies import assignment, rates, tuning
from core.words import counted
from pages.choice import confidence

Request = dict[str, Any]


class Setting(NamedTuple):
    """said : its value in words; shown : what the controls show that ask for it, by their keys"""

    said: Callable[[Any], str]
    shown: Callable[[Any], dict[str, Any]]


def _sure(key: str) -> Setting:
    return Setting(
        lambda level: "no confidence level" if level is None else f"{confidence.CHOICES[level]} confidence",
        lambda level: {key: confidence.CHOICES[level]},
    )


def _epochs(key: str) -> Setting:
    return Setting(lambda epochs: counted(epochs, "epoch"), lambda epochs: {key: epochs})


_ALLOWED = Setting(lambda loss: f"{100 * loss:g} pp", lambda loss: {confidence.ALLOWANCE: round(100 * loss, 4)})
_STEPS = Setting(
    lambda steps: counted(steps["epochs"], "epoch") + (" with distillation" if steps["distillation"] else ""),
    lambda steps: {"w_iterative_epochs": steps["epochs"], "w_iterative_distill": steps["distillation"]},
)
_BITS = Setting(lambda bits: counted(bits, "bit"), lambda bits: {"w_rate_bits": bits})
_ACTIVATIONS = Setting(
    lambda bits: "activations in float32" if bits is None else f"activations at {bits} bits",
    lambda bits: {"w_rate_activations": bits is not None},
)
_SCHEDULE = Setting(
    lambda name: settings.named("schedule").kind.labels[name].lower(), lambda name: {"w_rate_schedule": name}
)
_TRAINED = {"bits": _BITS, "activation_bits": _ACTIVATIONS, "epochs": _epochs("w_rate_epochs")}

SETTINGS: dict[str, dict[str, Setting]] = {
    tuning.ONE_SHOT: {"allowance": _ALLOWED, "confidence": _sure("w_confidence")},
    tuning.ITERATIVE: {"allowance": _ALLOWED, "recovery": _STEPS, "confidence": _sure("w_confidence")},
    assignment.QUANTIZATION: {"epochs": _epochs("w_bit_epochs")},
    assignment.COMBINATION: {
        "allowance": _ALLOWED, "epochs": _epochs("w_way_epochs"), "confidence": _sure("w_way_confidence"),
    },
    rates.CURVE: _TRAINED,
    rates.ABLATION: {**_TRAINED, "schedule": _SCHEDULE},
}  # fmt: skip


def back(request: Request, answered: Iterable[Request]) -> None:
    """Where nothing is known of a request, but of others of its kind, which differ in what the controls ask for alone:
    for which, and a button for each that leads there."""
    ours = SETTINGS.get(request["kind"], {})
    others = [own for own in answered if own != request and _rest(own, ours) == _rest(request, ours)]
    differ = [name for name in ours if any(own.get(name) != request.get(name) for own in others)]
    ways = {_said(own, ours, differ): own for own in others}
    if not ways:
        return
    st.caption(
        f"Not run yet for {_said(request, ours, differ)}. There are results for {'; '.join(ways)}.", width="content"
    )
    for said, own in ways.items():
        shown = {key: value for name in ours for key, value in ours[name].shown(own.get(name)).items()}
        st.button(
            f"Back to {said}", icon=":material/undo:", on_click=st.session_state.update, args=(shown,),
            key=f"back_{request['kind']}_{said}",
        )  # fmt: skip


def _rest(request: Request, ours: dict[str, Setting]) -> Request:
    return {name: value for name, value in request.items() if name not in ours}


def _said(request: Request, ours: dict[str, Setting], names: Iterable[str]) -> str:
    return ", ".join(ours[name].said(request.get(name)) for name in names)
