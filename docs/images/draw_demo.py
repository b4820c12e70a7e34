"""Draw what `make demo` prints: run the same quantization and write its table to demo.svg beside this file.

`make picture` runs it.
"""

from __future__ import annotations

import dataclasses
import io
import re
import tempfile
from pathlib import Path

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.terminal_theme import MONOKAI

from quantstats.cli.quantize import QuantizeJob, run
from quantstats.report.tables import render

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"
WIDTH = 76

# A picture in a repository fetches nothing: without rich's web fonts the reader's own monospaced font is taken.
WITHOUT_WEB_FONTS = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def main() -> None:
    """Quantize the digits CNN and save the picture."""
    with tempfile.TemporaryDirectory() as directory:
        job = QuantizeJob(
            model=DIGITS / "digits_cnn.onnx",
            data=DIGITS / "calibration.npz",
            test_data=DIGITS / "test.npz",
            labels="label",
            output=Path(directory) / "digits_cnn_int8.onnx",
        )
        summary = run(job, console=Console(quiet=True))
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(render(dataclasses.replace(summary, output=job.output.name)))
    picture = Path(__file__).with_name("demo.svg")
    console.save_svg(str(picture), title="make demo", theme=MONOKAI, code_format=WITHOUT_WEB_FONTS, unique_id="demo")
    print(picture.relative_to(ROOT))


if __name__ == "__main__":
    main()
