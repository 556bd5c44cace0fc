"""A map of policies as a picture, drawn by Vega-Lite; it needs the extra "report"."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from coldfleet.hostsim.spec.errors import UserError

SUFFIXES = (".png", ".svg")
_SIZE = 480  # pixels along a side
_PIXELS_PER_POINT = 2  # of a PNG


def check_picture(path: Path) -> None:
    """Raises UserError if a picture can't be written there."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"--picture {path}: pictures are .png or .svg")
    if not path.parent.is_dir():
        raise UserError(f"--picture {path}: there is no folder {path.parent}")
    if find_spec("altair") is None or find_spec("vl_convert") is None:
        raise UserError("--picture: pictures need more packages: pip install 'coldfleet[report]'")


def draw_picture(path: Path, squares: Sequence[dict[str, Any]], axes: tuple[str, str], title: str) -> None:
    """Writes the map: a square for each point (keys x, y, winners, simulated), a dot where it was simulated."""
    import altair as alt

    labels: dict[str, Any] = {"labelOverlap": "greedy", "labelSeparation": 8}
    base = alt.Chart(alt.InlineData(values=list(squares)), title=title).encode(
        x=alt.X("x:O", title=axes[0], axis=alt.Axis(labelAngle=0, **labels)),
        y=alt.Y("y:O", title=axes[1], sort="descending", axis=alt.Axis(**labels)),
    )
    area = base.mark_rect().encode(
        color=alt.Color("winners:N", title="wins", scale=alt.Scale(scheme="tableau10"), legend=alt.Legend(labelLimit=0))
    )
    dots = base.transform_filter("datum.simulated").mark_circle(size=12, color="black", opacity=0.6)
    chart = (area + dots).properties(width=_SIZE, height=_SIZE)
    chart.save(str(path), format=path.suffix[1:], scale_factor=_PIXELS_PER_POINT)
