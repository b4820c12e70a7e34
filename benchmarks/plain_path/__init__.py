"""onnxruntime as on a CPU without VNNI, on a CPU that has it: the truth that certificates and simulations are held to.

onnxruntime chooses its kernels by CPUID, so a child process is given other answers than this CPU's: by making the
instruction fault, where kernel and CPU can do that, else by a copy of onnxruntime in which another instruction that
faults is in its place. Everything else is real: the kernels that run are those that a CPU
without VNNI runs. A product of matrices that saturates shows that it worked.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

__all__ = ["Hidden", "Job", "PlainPath", "Unavailable", "saturation_probe"]

HERE = Path(__file__).parent
CPUID, INTERRUPT = b"\x0f\xa2", b"\xcd\xa2"
# Lines of `objdump -d`, millions of them: an address, a colon, and an instruction.
CPUID_LINE = re.compile(r"\tcpuid\b")
# What only programs in C load: the Python module has all of it inside.
NOT_NEEDED = ("__pycache__", "libonnxruntime.so*")
# Lines of `readelf -lW`: a segment that is loaded, its offset in the file, its address, its size in the file.
SEGMENT = re.compile(r"^\s*LOAD\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+0x[0-9a-f]+\s+0x([0-9a-f]+)", re.MULTILINE)
TIMEOUT = 600

Array = NDArray[Any]
# A model, and the inputs to run it on.
Job = tuple[onnx.ModelProto, Sequence[Mapping[str, Array]]]


class Hidden(str, Enum):
    """What is hidden: NOTHING; VNNI: all its encodings and AMX; AVX512: AVX-512 as well, which leaves AVX2."""

    NOTHING = "nothing"
    VNNI = "vnni"
    AVX512 = "avx512"

    def __str__(self) -> str:
        return self.value


class Unavailable(RuntimeError):
    """Instruction sets cannot be hidden on this machine; the message says why."""


class PlainPath:
    """Runs models in child processes from which instruction sets are hidden.

    :param directory: an existing folder for what is compiled and copied, about 35 MB.
    :raises Unavailable: neither way works here.
    """

    def __init__(self, directory: Path) -> None:
        if sys.platform != "linux" or platform.machine() != "x86_64":
            raise Unavailable(f"CPUID is hidden on x86-64 Linux alone; this is {platform.machine()} {sys.platform}")
        self._directory = directory
        self._library = directory / "hide_vnni.so"
        source = HERE / "hide_vnni.c"
        _tool("gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(self._library), str(source))
        self._site: Path | None = None
        if not self._saturates():
            self._site = directory / "site"
            _copy_without_cpuid(self._site)
            if not self._saturates():
                raise Unavailable("onnxruntime computes exact sums although VNNI is hidden from it")

    @property
    def way(self) -> str:
        """How instruction sets are hidden, for a person."""
        return "CPUID faults" if self._site is None else "a copy of onnxruntime without CPUID"

    def run(self, jobs: Sequence[Job], hidden: Hidden = Hidden.AVX512) -> list[list[list[Array]]]:
        """For each job the outputs of each feed. A process is started for all of them.

        :raises RuntimeError: the process failed; its output is in the message.
        """
        environment = dict(os.environ)
        site = None
        if hidden is not Hidden.NOTHING:
            environment.update(LD_PRELOAD=str(self._library), QUANTSTATS_HIDE=str(hidden))
            site = None if self._site is None else str(self._site)
        with tempfile.TemporaryDirectory(dir=self._directory) as folder:
            source, target = Path(folder, "jobs"), Path(folder, "results")
            source.write_bytes(pickle.dumps((site, [(model.SerializeToString(), feeds) for model, feeds in jobs])))
            command = [sys.executable, str(HERE / "child.py"), str(source), str(target)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
            found: list[list[list[Array]]] = pickle.loads(target.read_bytes())
        return found

    def _saturates(self) -> bool:
        model, feed, exact, saturated = saturation_probe()
        outputs = [self.run([(model, [feed])], hidden)[0][0][0] for hidden in (Hidden.VNNI, Hidden.AVX512)]
        if all(np.array_equal(output, exact) for output in outputs):
            return False
        if not all(np.array_equal(output, saturated) for output in outputs):
            raise Unavailable(f"255 * 127 * 64 is {outputs[0].flat[0]} and {outputs[1].flat[0]} where VNNI is hidden")
        return True


def saturation_probe() -> tuple[onnx.ModelProto, dict[str, Array], Array, Array]:
    """A product of 255s and 127s: its model, its feed, the exact result, and that of sums of pairs in 16 bits."""
    rows, length, columns = 4, 64, 16
    weight = onnx.numpy_helper.from_array(np.full((length, columns), 127, np.int8), "b")
    a = onnx.helper.make_tensor_value_info("a", onnx.TensorProto.UINT8, [rows, length])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT32, [rows, columns])
    node = onnx.helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    graph = onnx.helper.make_graph([node], "probe", [a], [y], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    exact = np.full((rows, columns), 255 * 127 * length, np.int32)
    return model, {"a": np.full((rows, length), 255, np.uint8)}, exact, np.full_like(exact, 32767 * length // 2)


def _copy_without_cpuid(site: Path) -> None:
    """Copy onnxruntime into `site`, an interrupt for every CPUID instruction of its libraries."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise Unavailable("onnxruntime is not installed")
    package = site / "onnxruntime"
    shutil.copytree(Path(spec.origin).parent, package, ignore=shutil.ignore_patterns(*NOT_NEEDED))
    patched = 0
    for library in package.rglob("*.so*"):
        data = bytearray(library.read_bytes())
        if CPUID not in data:
            continue
        listing = _tool("objdump", "-d", "--no-show-raw-insn", str(library))
        addresses = [
            int(listing[listing.rindex("\n", 0, line.start()) : line.start()].rstrip(":"), 16)
            for line in CPUID_LINE.finditer(listing)
        ]
        segments = [tuple(int(n, 16) for n in row) for row in SEGMENT.findall(_tool("readelf", "-lW", str(library)))]
        for address in addresses:
            at = next(offset + address - start for offset, start, size in segments if start <= address < start + size)
            if data[at : at + 2] != CPUID:
                raise Unavailable(f"no CPUID instruction at {at:#x} of {library.name}, where objdump has one")
            data[at : at + 2] = INTERRUPT
        library.write_bytes(data)
        patched += len(addresses)
    if not patched:
        raise Unavailable("objdump finds no CPUID instruction in onnxruntime's libraries")


def _tool(*command: str) -> str:
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    except FileNotFoundError:
        raise Unavailable(f"hiding instruction sets takes {command[0]}, which is not installed") from None
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{' '.join(command)} failed:\n{error.stderr}") from error
    return done.stdout
