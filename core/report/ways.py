"""Where the layers of a network stand in a drawing of it, and the ways that lead around some of them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from core.networks.graph import Network

WIDTH, JOIN = 0.76, 0.5
"""Of a layer, where the next begins at 1; of the place where ways meet."""

SIGNS = {"add": "+", "concatenate": "∥"}
"""Of nodes that join several inputs."""

NAMED = 8
"""Layers in a line whose figures all find room beneath them."""

DEPTH = 1.25
"""How far below the middle a way may lead, in thicknesses of the thickest layer."""


def places(graph: "Network") -> dict[str, float]:
    """Where each layer, and each node at which ways meet, begins from the left."""
    found, x = dict[str, float](), 0.0
    for node in graph.nodes:
        if node.weighted or node.operation in SIGNS:
            found[node.name] = x
            x += 1.0 if node.weighted else JOIN
    return found


def branches(graph: "Network") -> bool:
    """Whether there are ways that meet again: it is no chain."""
    return any(node.operation in SIGNS for node in graph.nodes)


def end(found: Mapping[str, float]) -> float:
    """Where the drawing ends on the right."""
    return max(found.values()) + 1.0


def ways(graph: "Network", found: Mapping[str, float], thickest: float) -> pd.DataFrame:
    """The signs where ways meet, and the ways that lead around something, as curves below the middle.

    Columns kind ("join" or "way"); of a join middle, above (its sign), low; of a way way, left, low, point by point.
    No rows for a chain.
    """
    sources: dict[str, list[str]] = {}
    rows: list[dict[str, Any]] = []
    order = list(found)
    for node in graph.nodes:
        reads = [name for read in node.inputs for name in sources.get(read, [read])]  # the image is read as it is
        sources[node.name] = [node.name] if node.name in found else reads
        if node.operation in SIGNS:
            middle = found[node.name] - (1 - WIDTH) + JOIN / 2
            rows.append({"kind": "join", "middle": middle, "above": SIGNS[node.operation], "low": 0.0})
        for source in reads if node.name in found else ():
            place = order.index(node.name)
            if source in graph.named if place == 0 else source != order[place - 1]:
                rows += _around(source, node.name, graph, found, thickest)
    return pd.DataFrame(rows)


def _around(
    source: str, target: str, graph: "Network", found: Mapping[str, float], thickest: float
) -> list[dict[str, Any]]:
    """A way from one node to another, past those between."""
    begin = found[source] + (WIDTH if graph.named[source].weighted else 0.1) if source in found else -0.25
    end = found[target] - (0.05 if graph.named[target].weighted else (1 - WIDTH) - JOIN / 2)
    steps = [step / 12 for step in range(13)]
    return [
        {
            "kind": "way",
            "way": f"{source} {target}",
            "left": begin + (end - begin) * t,
            "low": -4 * t * (1 - t) * DEPTH * thickest,
        }
        for t in steps
    ]
