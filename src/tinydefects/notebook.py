"""What a notebook shows of a value: tables and small pictures as HTML that fetches nothing and runs no script."""

import base64
import io
import math
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PICTURE_PX = 256  # long side
RAMP = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))  # RGB, low to high
WHISKER_PX = (96, 10)  # width, height


class Html(str):
    """Text that is HTML already; all other text is escaped."""

    __slots__ = ()


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str) -> Html:
    """A table whose first column is text and whose others are numbers."""
    lines = [f'<table><caption style="text-align:left">{_text(caption)}</caption>']
    lines.append(f"<thead><tr>{''.join(f'<th>{_text(cell)}</th>' for cell in head)}</tr></thead><tbody>")
    for row in rows:
        numbers = "".join(f'<td style="text-align:right">{_text(cell)}</td>' for cell in row[1:])
        lines.append(f'<tr><th style="text-align:left">{_text(row[0])}</th>{numbers}</tr>')
    return Html("\n".join([*lines, "</tbody></table>"]))


def paragraphs(lines: Iterable[str]) -> Html:
    """One a line."""
    return Html("\n".join(f"<p>{_text(line)}</p>" for line in lines))


def number(value: float, interval: str = "", *, is_best: bool = False, mark: str = "") -> Html:
    """A number with a mark behind it and its interval below it in small, if there are such."""
    shown = (f"<b>{value:.4f}</b>" if is_best else f"{value:.4f}") + _text(mark)
    return Html(f"{shown}<br><small>{_text(interval)}</small>" if interval else shown)


def whisker(value: float, low: float, high: float) -> Html:
    """A dot between 0 and 1 on the line of its interval; nothing for what lies elsewhere or is undefined."""
    if not 0 <= value <= 1:
        return Html("")
    width, height = WHISKER_PX
    ends = (value, value) if math.isnan(low) or math.isnan(high) else (low, high)
    start, end = (width * min(1.0, max(0.0, place)) for place in ends)
    middle, axis = height / 2, f'<line x1="0" y1="{height}" x2="{width}" y2="{height}" stroke-opacity="0.3"/>'
    return Html(
        f'<svg width="{width}" height="{height}" style="overflow:visible" stroke="currentColor">'
        f'{axis}<line x1="{start:.1f}" y1="{middle}" x2="{end:.1f}" y2="{middle}"/>'
        f'<circle cx="{width * value:.1f}" cy="{middle}" r="2.5" fill="currentColor"/></svg>'
    )


def map_picture(anomaly_map: NDArray[np.float32], *, told: str) -> Html:
    """An (H, W) map as a small picture, lowest to highest value; each of its pixels is the highest of those it covers.

    A defect of one pixel is seen in it, whatever the size of the map.
    """
    step = math.ceil(max(anomaly_map.shape) / PICTURE_PX)
    rows = np.maximum.reduceat(anomaly_map, range(0, anomaly_map.shape[0], step), axis=0)
    small = np.maximum.reduceat(rows, range(0, anomaly_map.shape[1], step), axis=1)
    low, high = float(anomaly_map.min()), float(anomaly_map.max())
    places = (small - low) / max(high - low, 1e-12)
    colours = [np.interp(places, np.linspace(0, 1, len(RAMP)), [colour[one] for colour in RAMP]) for one in range(3)]
    stored = io.BytesIO()
    Image.fromarray(np.rint(np.stack(colours, axis=-1)).astype(np.uint8)).save(stored, format="PNG")
    return Html(
        f'<img alt="{_text(told)}" style="image-rendering:pixelated;width:{PICTURE_PX}px" '
        f'src="data:image/png;base64,{base64.b64encode(stored.getvalue()).decode()}">'
    )


def _text(text: str) -> str:
    return text if isinstance(text, Html) else escape(text)
