"""The programs of docs/c-api.md, built against the installed wheel, give the results of Python."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pybind11
import pytest
from numpy.typing import NDArray

from quantstats import kernels

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "c-api.md"


def run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [*map(str, command)], env=os.environ | (env or {}), cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tool(name: str) -> str:
    """The path of a program: that of this Python environment first."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is not installed; the test extra and a compiler tool chain are needed"
    return found


def is_editable() -> bool:
    origin = metadata.distribution("quantstats-native").read_text("direct_url.json")
    return bool(origin and json.loads(origin).get("dir_info", {}).get("editable"))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with quantstats installed from a wheel.

    This one, unless its installation is editable; then an environment with a wheel built from the sources, in a build
    folder that is kept, and the dependencies of this one.
    """
    if not is_editable():
        return Path(sys.executable)
    folder = tmp_path_factory.mktemp("environment")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    build = ROOT / "build" / "wheel-for-tests"
    run(
        *pip,
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "-C",
        f"build-dir={build}",
        "-w",
        folder,
        ROOT,
        env={"PATH": path},
    )
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    new = folder / "venv" / "bin" / "python"
    run(*pip, "--python", new, "install", "--no-deps", *folder.glob("*.whl"))
    site = Path(run(new, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))").strip())
    # A path in a .pth file comes last, and .pth files of its own -- those of editable installations -- do not count.
    (site / "dependencies.pth").write_text(str(Path(np.__file__).parents[1]))
    return new


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the document."""
    folder = tmp_path_factory.mktemp("consumers")
    found = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    for name, text in found:
        (folder / name).write_text(text)
    expected = {"calibrate.c", "CMakeLists.txt", "channels.cpp", "robust.cpp", "client.pyx", "proof.c"}
    assert {name for name, _ in found} == expected
    return folder


def ask(python: Path, expression: str) -> str:
    # In another folder: the sources of the package must not be imported.
    return run(python, "-c", f"import quantstats, os; print({expression})", cwd=python.parent).strip()


@pytest.fixture(scope="module")
def native(python: Path, sources: Path) -> Path:
    """The folder where CMake has built the C++ program and the pybind11 module."""
    build = sources / "build"
    run(
        *(tool("cmake"), "-S", sources, "-B", build, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"),
        "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror",
        f"-Dquantstats_DIR={ask(python, 'quantstats.get_cmake_dir()')}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        f"-DPython_EXECUTABLE={python}",
    )
    run(tool("cmake"), "--build", build)
    return build


def flags_of_pkg_config(folder: Path) -> list[str]:
    """What pkg-config says; where it is not installed, what the file says."""
    if program := shutil.which("pkg-config") or shutil.which("pkgconf"):
        return run(program, "--cflags", "--libs", "quantstats", env={"PKG_CONFIG_PATH": str(folder)}).split()
    values, flags = {"pcfiledir": str(folder)}, []
    for line in (folder / "quantstats.pc").read_text().splitlines():
        match = re.match(r"(\w*)([=:]?)\s*(.*)", line)
        assert match is not None
        name, separator, text = match.groups()
        text = re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], text)
        if separator == "=":
            values[name] = text
        elif name in ("Cflags", "Libs"):
            flags += text.split()
    return flags


@pytest.fixture(scope="module")
def digits() -> NDArray[np.float32]:
    """Images of handwritten digits, a row each, with noise so that all pixels differ; 6 MB: enough for two threads."""
    images = np.load(ROOT / "examples" / "digits" / "calibration.npz")["image"]
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows = np.tile(rows, (1 + 1_500_000 // rows.size, 1))
    return rows + np.random.default_rng(3).standard_normal(rows.shape, np.float32)


THREADS = pytest.mark.parametrize("threads", [1, 2])


@pytest.fixture(scope="module")
def calibrate(python: Path, sources: Path) -> Path:
    """The C program."""
    flags = flags_of_pkg_config(Path(ask(python, "quantstats.get_pkgconfig_dir()")))
    strict = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
    run(tool("cc"), *strict, sources / "calibrate.c", *flags, "-o", sources / "calibrate")
    return sources / "calibrate"


@THREADS
def test_c_program(calibrate: Path, digits: NDArray[np.float32], tmp_path: Path, threads: int) -> None:
    rows, columns = digits.shape
    digits.tofile(tmp_path / "samples.f32")
    printed = run(calibrate, "samples.f32", str(rows), str(columns), str(threads), "levels.s8", cwd=tmp_path).split()
    low, high = kernels.quantile(digits, [1e-3, 1 - 1e-3])
    assert [np.float32(word) for word in printed[:2]] == [low, high]
    assert printed[2] == "0"
    np.testing.assert_array_equal(np.array(printed[3:], np.float32), kernels.median(digits, 0))
    scale = np.float32(max(high, -low)) / np.float32(127)
    levels = np.fromfile(tmp_path / "levels.s8", np.int8).reshape(digits.shape)
    np.testing.assert_array_equal(levels, kernels.quantize_linear(digits, scale, 0, qmin=-127, qmax=127))


def test_c_program_tells_what_is_wrong(calibrate: Path, digits: NDArray[np.float32], tmp_path: Path) -> None:
    digits.tofile(tmp_path / "samples.f32")
    command = [calibrate, "samples.f32", *map(str, digits.shape), "0", "levels.s8"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "threads: n is 0; pass the number of threads, at least 1\n"


@THREADS
@pytest.mark.parametrize("isa", ["", "scalar"])
def test_cpp_program(native: Path, digits: NDArray[np.float32], tmp_path: Path, threads: int, isa: str) -> None:
    weights = digits.T.copy()
    weights.tofile(tmp_path / "weights.f32")
    command = (native / "channels", "weights.f32", *map(str, weights.shape), str(threads))
    worst, _, name = run(*command, cwd=tmp_path, env={"QUANTSTATS_ISA": isa}).split()
    scales = kernels.abs_max(weights, 1) / np.float32(127)
    rounded = kernels.fake_quantize(weights, scales, 0, axis=0, qmin=-127, qmax=127)
    assert np.float32(worst) == np.abs(weights - rounded).max()
    assert name == isa or not isa


_IN_PYTHON = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import quantstats
quantstats.set_num_threads(int(sys.argv[4]))
x = np.load(sys.argv[2])
if sys.argv[5] == "robust":
    import robust
    medians, tails = robust.columns(x[::-1, ::2], 0.999)
    np.savez(sys.argv[3], medians=medians, tails=tails, levels=robust.quantize(x.T, 0.25, 100))
    try:
        robust.columns(x, 1.5)
    except ValueError as error:
        print(error)
else:
    import client
    medians, tails = client.columns(x[::-1, ::2], 0.999)
    np.savez(sys.argv[3], medians=medians, tails=tails, levels=client.quantize(x.T, 0.25))
    try:
        client.columns(x, 1.5)
    except ValueError as error:
        print(error)
    print(*client.largest_of_each_row(x))
print(quantstats.__file__)
"""


def in_python(
    python: Path, modules: Path, x: NDArray[Any], folder: Path, threads: int, name: str
) -> tuple[Any, list[str]]:
    np.save(folder / "x.npy", x)
    arguments = (modules, folder / "x.npy", folder / "found.npz", str(threads), name)
    printed = run(python, "-c", _IN_PYTHON, *arguments, cwd=folder).splitlines()
    assert Path(printed[-1]).parent != ROOT / "src" / "quantstats"  # the wheel's
    found = np.load(folder / "found.npz")
    np.testing.assert_array_equal(found["medians"], kernels.median(x[::-1, ::2], 0))
    np.testing.assert_array_equal(found["tails"], kernels.quantile(x[::-1, ::2], 0.999, 0))
    assert printed[0] == "q[0] is 1.5; probabilities lie between 0 and 1 (a percentile divided by 100)"
    return found["levels"], printed


@THREADS
def test_pybind11_module(python: Path, native: Path, digits: NDArray[np.float32], tmp_path: Path, threads: int) -> None:
    levels, _ = in_python(python, native, digits, tmp_path, threads, "robust")
    expected = kernels.quantize_linear(digits.T, 0.25, 100, qmin=0, qmax=255, dtype=np.uint8)
    np.testing.assert_array_equal(levels, expected)


def build_extension(folder: Path, name: str, *options: str) -> None:
    suffix, include = sysconfig.get_config_var("EXT_SUFFIX"), sysconfig.get_path("include")
    output = folder / f"{name}{suffix}"
    run(tool("cc"), "-O2", "-shared", "-fPIC", f"-I{include}", *options, folder / f"{name}.c", "-o", output)


@pytest.fixture(scope="module")
def cython_client(python: Path, sources: Path) -> Path:
    """The folder of the Cython module."""
    site = ask(python, "os.path.dirname(os.path.dirname(quantstats.__file__))")
    run(sys.executable, "-m", "cython", "-3", "-I", site, sources / "client.pyx")
    build_extension(sources, "client")
    return sources


@THREADS
def test_cython_module(
    python: Path, cython_client: Path, digits: NDArray[np.float32], tmp_path: Path, threads: int
) -> None:
    levels, printed = in_python(python, cython_client, digits, tmp_path, threads, "client")
    np.testing.assert_array_equal(levels, kernels.quantize_linear(digits.T, 0.25, 0, qmin=-127, qmax=127))
    largest = digits.max(1).astype(np.float64)
    low, high, mean = map(float, printed[1].split())
    assert (low, high) == (largest.min(), largest.max())
    assert mean == pytest.approx(largest.mean(), rel=1e-12)


def test_module_that_works_with_older_releases(python: Path, sources: Path) -> None:
    build_extension(sources, "proof", "-Wall", "-Wextra", "-Werror", f"-I{ask(python, 'quantstats.get_include()')}")
    rows: dict[str, bytes] = {"half range": b"\x40\x40\x00", "positive": b"\x41\x40\x00", "negative": b"\xbf\xc0\x7f"}
    printed = run(
        *(python, "-c", "import sys, proof; print(*(proof.is_safe(bytes.fromhex(row)) for row in sys.argv[1:]))"),
        *(row.hex() for row in rows.values()),
        cwd=sources,
    )
    sums = {name: np.frombuffer(row, np.int8).astype(int) for name, row in rows.items()}
    safe = [
        255 * np.sort(np.maximum(row, 0))[-2:].sum() <= 32767 and 255 * np.sort(np.maximum(-row, 0))[-2:].sum() <= 32768
        for row in sums.values()
    ]
    assert printed.split() == [str(value) for value in safe]
    assert len(set(safe)) == 2
