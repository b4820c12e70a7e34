"""Objects compiled for an instruction set export their table and nothing else, and keep to that instruction set.

A weak symbol -- an inline function or template compiled for several instruction sets -- leaves one copy in the binary,
and it may be the one that old CPUs cannot run. The objects are built here with the flags of the real build, so the
check needs no build tree.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# What the compiler may call on its own, and the C mathematics of the scalar kernels.
ALLOWED = {"memcpy", "memmove", "memset", "fma", "fmaf", "rint", "rintf", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
ALLOWED |= {"__popcountdi2"}  # of the compiler's own library, where no instruction counts bits

# Mnemonics that came after SSE2: those of AVX all begin with v; then SSE3, SSSE3, SSE4.1, SSE4.2 with popcnt, and BMI.
# tzcnt is left out: it is how assemblers spell "rep bsf", which old CPUs run as bsf.
LATER = re.compile(
    r"v\w+|addsub\w+|h(add|sub)p[sd]|lddqu|mov(ddup|s[hl]dup)|fisttp\w*|monitor|mwait"
    r"|pabs[bwd]|palignr|phadd\w+|phsub\w+|pmaddubsw|pmulhrsw|pshufb|psign[bwd]"
    r"|p?blend\w+|dpp[sd]|extractps|insertps|movntdqa|mpsadbw|packusdw|pcmpeqq|pextr[bdq]|phminposuw|pinsr[bdq]"
    r"|pm(ax|in)(sb|sd|ud|uw)|pmov[sz]x\w+|pmuldq|pmulld|ptest|round[ps][sd]"
    r"|crc32\w?|pcmp[ei]str[im]|pcmpgtq|popcnt\w?"
    r"|andn|bextr|bls[ir]|blsmsk|bzhi|lzcnt\w?|movbe\w?|mulx|pdep|pext|rorx|sarx|shlx|shrx"
)


def tool(name: str) -> str:
    """The path of a program: that of this Python environment first."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is not installed; the test extra and a compiler tool chain are needed"
    return found


@pytest.fixture(scope="module")
def objects(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    build = tmp_path_factory.mktemp("kernels")
    ninja = f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"
    configure = [tool("cmake"), "-S", repository, "-B", build, "-G", "Ninja", ninja, "-DQS_PYTHON=OFF"]
    for command in (configure, [tool("cmake"), "--build", build]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return sorted(build.glob("CMakeFiles/qs_*.dir/csrc/targets/*.o"))


def families(repository: Path) -> list[str]:
    rows = (repository / "csrc/kernels/kernels.def").read_text().splitlines()
    return [row[len("QS_FAMILY_BEGIN(") : -1] for row in rows if row.startswith("QS_FAMILY_BEGIN(")]


def symbols(path: Path) -> list[tuple[str, str]]:
    """Type letter and name of every symbol of an object."""
    lines = subprocess.run([tool("nm"), "-P", path], capture_output=True, text=True, check=True).stdout.splitlines()
    return [(line.split()[1], line.split()[0]) for line in lines]


def mnemonics(path: Path) -> set[str]:
    command = [tool("objdump"), "--disassemble", "--no-show-raw-insn", path]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^ *[0-9a-f]+:\t(\w+)", listing, re.MULTILINE))


def test_every_object_exports_exactly_its_table(
    repository: Path, objects: list[Path], instruction_sets: tuple[str, ...]
) -> None:
    expected = {f"qs_{isa}_{family}" for isa in instruction_sets for family in families(repository)}
    assert expected
    exported = set()
    for path in objects:
        table = path.relative_to(path.parents[3]).parts[0].removesuffix(".dir")
        names = symbols(path)
        assert [name for kind, name in names if kind.isupper() and kind != "U"] == [table]
        assert not [name for kind, name in names if kind in "vVwWu"], f"{table} holds weak symbols"
        assert {name for kind, name in names if kind == "U"} <= ALLOWED
        exported.add(table)
    assert exported == expected


def test_sse2_objects_run_on_every_x86_64(objects: list[Path], instruction_sets: tuple[str, ...]) -> None:
    """No instruction of the SSE2 objects is later than SSE2; the same search finds some in each AVX2 object."""
    later: dict[str, list[set[str]]] = {"sse2": [], "avx2": []}
    for path in objects:
        isa = path.name.split(".")[0]
        if isa in later:
            later[isa].append({name for name in mnemonics(path) if LATER.fullmatch(name)})
    assert bool(later["sse2"]) == ("sse2" in instruction_sets)
    assert not any(later["sse2"]), set().union(*later["sse2"])
    assert all(later["avx2"])


def test_the_check_sees_a_weak_symbol(tmp_path: Path) -> None:
    """An inline function outside an anonymous namespace is what the check is for: it must notice one."""
    source = tmp_path / "weak.cpp"
    source.write_text("inline int twice(int x) { return 2 * x; }\nint (*table)(int) = &twice;\n")
    subprocess.run([tool("g++"), "-c", source, "-o", tmp_path / "weak.o"], check=True)
    assert "W" in {kind for kind, _ in symbols(tmp_path / "weak.o")}
