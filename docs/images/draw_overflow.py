"""Draw the SQNR of the digits transformer by overflow fix, with and without VNNI: overflow.svg beside this file.

From the root of the repository:

    python -m docs.images.draw_overflow
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from benchmarks.overflow_models import Row, digits, measure
from benchmarks.plain_path import Hidden, PlainPath

MODEL, TITLE = "digits_transformer", "Digits transformer: SQNR of the outputs against fp32, dB"
SERIES = ((Hidden.NOTHING, "CPU with VNNI", "#9db8d2"), (Hidden.AVX512, "the same without: AVX2", "#1f4e79"))
FIXES = {
    "disable": "DISABLE",
    "first_layer_only": "FIRST_LAYER",
    "enable": "ENABLE",
    "auto, any": "AUTO, any",
    "auto, onnxruntime": "AUTO, onnxruntime",
}
WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 76, 40
BAR, STEP_DB = 46, 5
INK, FAINT = "#24292f", "#d0d7de"


def main() -> None:
    """Measure and save the picture."""
    with tempfile.TemporaryDirectory() as directory:
        rows = [row for row in measure(digits(MODEL, 1000), PlainPath(Path(directory))) if row.fix in FIXES]
    picture = Path(__file__).with_name("overflow.svg")
    picture.write_text("\n".join(svg(rows)) + "\n", encoding="utf-8")
    print(picture.name, *(f"{row.fix}: {row.sqnr[Hidden.AVX512]:.1f}" for row in rows), sep="\n")


def svg(rows: Sequence[Row]) -> Iterator[str]:
    """The lines of the picture: two bars for each fix."""
    greatest = max(value for row in rows for value in row.sqnr.values())
    top = STEP_DB * (int(greatest // STEP_DB) + 1)

    def y(decibels: float) -> float:
        return HEIGHT - BOTTOM - decibels / top * (HEIGHT - TOP - BOTTOM)

    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}" role="img">'
    )
    yield f"<title>{escape(TITLE)}</title>"
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    yield f'<text x="{LEFT}" y="26" font-size="15" font-weight="600">{escape(TITLE)}</text>'
    for index, (_, label, color) in enumerate(SERIES):
        x = LEFT + 160 * index
        yield f'<rect x="{x}" y="42" width="12" height="12" fill="{color}"/>'
        yield f'<text x="{x + 18}" y="53">{escape(label)}</text>'
    for level in range(0, top + 1, STEP_DB):
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(level):.1f}" y2="{y(level):.1f}" stroke="{FAINT}"/>'
        yield f'<text x="{LEFT - 8}" y="{y(level) + 4:.1f}" text-anchor="end">{level}</text>'
    group = (WIDTH - LEFT - RIGHT) / len(rows)
    for index, row in enumerate(rows):
        middle = LEFT + group * (index + 0.5)
        for side, (hidden, _, color) in enumerate(SERIES):
            x, value = middle + (side - 1) * (BAR + 2) + 1, row.sqnr[hidden]
            yield f'<rect x="{x:.1f}" y="{y(value):.1f}" width="{BAR}" height="{y(0) - y(value):.1f}" fill="{color}"/>'
            yield f'<text x="{x + BAR / 2:.1f}" y="{y(value) - 5:.1f}" text-anchor="middle">{value:.1f}</text>'
        yield f'<text x="{middle:.1f}" y="{HEIGHT - 16}" text-anchor="middle">{escape(FIXES[row.fix])}</text>'
    yield "</svg>"


if __name__ == "__main__":
    main()
