"""What the repository says of itself holds: commands, links and names in the documentation, no trace of a machine."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import quantstats

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/accuracy-control.md",
    "docs/bias-correction.md",
    "docs/c-api.md",
    "docs/getting-started.md",
    "docs/cli.md",
    "docs/integrations.md",
    "docs/onnx.md",
    "docs/overflow.md",
    "docs/parameters.md",
    "docs/parity.md",
    "docs/performance.md",
    "docs/statistics.md",
)

# Written in halves, so that this file does not contain what it looks for.
MACHINE_PATHS = tuple("/" + name + "/" for name in ("home", "root", "work", "opt", "Users", "mnt"))
REGISTRY_HOSTS = ("pypi" + ".org", "python" + "hosted.org", "ana" + "conda.org", "download." + "pytorch.org")
FOREIGN = re.compile(
    "|".join([*(rf"(?<![\w./>)}}\]-]){re.escape(path)}\w" for path in MACHINE_PATHS), *map(re.escape, REGISTRY_HOSTS)])
)

GENERATED = {".git", ".venv", "build", "dist", "__pycache__"}


def files_of_the_repository() -> list[Path]:
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
        )
        return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    return [path for path in ROOT.rglob("*") if path.is_file() and GENERATED.isdisjoint(path.relative_to(ROOT).parts)]


def text_of(path: Path) -> str:
    content = path.read_bytes()
    return "" if b"\0" in content else content.decode()


def commands(document: str) -> list[str]:
    """The lines of the shell blocks of a document, continued lines joined, comments dropped."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / document).read_text(), flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+#.*", "", line).strip() for line in lines if line.strip()]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_no_file_names_a_path_of_a_machine_or_a_package_registry() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in files_of_the_repository()
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if (match := FOREIGN.search(line))
    ]
    assert found == []


@pytest.mark.parametrize("line", ["cd /" + "work/main", "at '/" + "root/x'", "https://" + "pypi" + ".org/simple"])
def test_the_search_for_paths_and_registries_finds_them(line: str) -> None:
    assert FOREIGN.search(line)


def test_the_readme_has_the_two_commands_that_set_everything_up() -> None:
    assert {"make demo", "make test"} <= set(commands("README.md"))


def test_make_installs_the_build_tools_that_pyproject_requires() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    required = re.search(r"^\[build-system\]\nrequires = \[(.*?)\]$", project, flags=re.MULTILINE | re.DOTALL)
    installed = re.search(r"^BUILD_TOOLS := (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert required is not None
    assert installed is not None
    tools = set(re.findall(r'"([^"]+)"', installed[1]))
    assert set(re.findall(r'"([^"]+)"', required[1])) <= tools
    for tool in ("cmake", "ninja"):
        version = re.search(rf'^{tool}\.version = "(.+)"$', project, flags=re.MULTILINE)
        assert version is not None
        assert f"{tool}{version[1]}" in tools


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_in_a_document_exists(document: str) -> None:
    used = {word for line in commands(document) for word in re.findall(r"^make (\w+)", line)}
    assert used <= make_targets()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_to_a_file_leads_somewhere(document: str) -> None:
    source = ROOT / document
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", source.read_text())
    assert [link for link in links if not (source.parent / link).exists()] == []


@pytest.mark.parametrize("document", [*DOCUMENTS, "examples/digits/README.md"])
def test_every_option_of_quantstats_in_a_document_exists(document: str) -> None:
    from typer.testing import CliRunner

    from quantstats.cli.app import app

    for line in commands(document):
        if match := re.match(r"quantstats ([a-z]+)(.*)", line):
            shown = CliRunner().invoke(app, [match[1], "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
            assert shown.exit_code == 0, line
            for option in re.findall(r"(?<=\s)--?[a-z][\w-]*", match[2].partition("|")[0]):
                assert re.search(rf"(?<![\w-]){option}(?![\w-])", shown.stdout), f"{document}: {option}"


def test_every_option_of_quantize_is_in_the_guide() -> None:
    from typer.testing import CliRunner

    from quantstats.cli.app import app

    shown = CliRunner().invoke(app, ["quantize", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).stdout
    options = set(re.findall(r"^│ \*?\s+(--[a-z-]+)", shown, flags=re.MULTILINE)) - {"--help"}
    guide = (ROOT / "docs" / "cli.md").read_text()
    assert len(options) > 15
    assert {option for option in options if f"`{option}" not in guide} == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_public_name_in_a_document_exists(document: str) -> None:
    text = (ROOT / document).read_text()
    for name in re.findall(r"\bqs\.(\w+)", text):
        assert hasattr(quantstats, name), f"{document}: qs.{name}"
    for module, names in re.findall(r"from (quantstats[\w.]*) import (\w+(?:, \w+)*)", text):
        for name in names.split(", "):
            assert hasattr(importlib.import_module(module), name) or importlib.import_module(f"{module}.{name}")
    for name in re.findall(r"\bkernels\.(\w+)\(", text):
        assert hasattr(importlib.import_module("quantstats.kernels"), name), f"{document}: kernels.{name}"


PUBLIC = """
    quantstats.range_estimator: StatisticsType AggregatorType StatisticsCollectorParameters RangeEstimatorParameters
        RangeEstimatorParametersSet
    quantstats.advanced_parameters: OverflowFix QuantizationParameters AdvancedBiasCorrectionParameters
        AdvancedQuantizationParameters AdvancedAccuracyRestorerParameters RestoreMode
    quantstats.parameters: QuantizationMode QuantizationPreset TargetDevice ModelType DropType IgnoredScope
    quantstats.kernels: min_max abs_max mean median quantile abs_quantile mean_no_outliers median_no_outliers summarize
        Summary histogram quantize_linear dequantize_linear fake_quantize saturating_matmul
    quantstats.streaming: RunningRange RunningMean RunningHistogram
    quantstats.typing: Tensor SupportsDLPack SupportsBuffer SupportsArrayInterface
    quantstats.errors: QuantizationError ModelError DataError NonFiniteError IgnoredScopeError NothingToQuantizeError
        ParameterError UnsupportedModelError
    quantstats.statistics.inspection: inspect_statistics inspect_tensor TensorInspection BoundInspection RangeOfFirst
    quantstats.statistics.what_if: what_if WhatIf Prediction PredictionSummary
    quantstats.statistics.comparison: compare_statistics Comparison RangePair Sides
    quantstats.overflow: certify Certificate smallest_safe_scale Pairing PAIRINGS BlockPairs AnyPairs NoPairs LayerKind
        find_pairing pair_limits saturating_conv simulate Simulation analyze OverflowReport LayerReport
    quantstats.integrations.nncf: accelerate enable disable is_enabled SUPPORTED_VERSIONS
    quantstats.integrations.onnxruntime: quantize_static create_calibrator accelerate enable disable is_enabled
        SUPPORTED_VERSIONS StreamingCalibrater HistogramCalibrater MinMaxCalibrater PercentileCalibrater
        EntropyCalibrater DistributionCalibrater RangeEstimatorCalibrater
    quantstats.integrations.torch: RangeObserver MinMaxObserver QuantileObserver PercentileObserver MSEObserver
        HistogramObserver EntropyObserver AutoObserver
    quantstats: overflow StatisticsType AggregatorType StatisticsCollectorParameters RangeEstimatorParameters
        RangeEstimatorParametersSet OverflowFix QuantizationParameters AdvancedBiasCorrectionParameters
        AdvancedQuantizationParameters AdvancedAccuracyRestorerParameters QuantizationMode QuantizationPreset
        TargetDevice ModelType DropType IgnoredScope RangeEstimator QuantizerConfig quantizer_from_range quantize
        Dataset QuantizationError show_config set_num_threads get_num_threads calibrate
        get_include get_cmake_dir get_pkgconfig_dir
        CalibrationStatistics DerivedRange NonFinitePolicy RestoreMode quantize_with_accuracy_control restore_accuracy
        AccuracyControlResult AccuracyControlReport
"""


def public_names() -> list[tuple[str, str]]:
    module, found = "", []
    for word in PUBLIC.split():
        if word.endswith(":"):
            module = word.removesuffix(":")
        else:
            found.append((module, word))
    return found


@pytest.mark.parametrize(("module", "name"), public_names(), ids=lambda value: value)
def test_a_public_name_can_be_imported(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


def test_everything_that_is_exported_exists() -> None:
    assert [name for name in quantstats.__all__ if not hasattr(quantstats, name)] == []
    assert {name for module, name in public_names() if module == "quantstats"} <= set(quantstats.__all__)
