"""What runs in the process from which instruction sets are hidden: models, by the onnxruntime that the parent names.

    python child.py JOBS RESULTS

JOBS is a pickle of the folder of onnxruntime's package (``None`` for the installed one) and of models, each as bytes
with the feeds to run it on. RESULTS gets, for each model, the outputs of each feed.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path


def main() -> None:
    """Run all models."""
    source, target = map(Path, sys.argv[1:])
    site, jobs = pickle.loads(source.read_bytes())
    if site is not None:
        sys.path.insert(0, site)
    import onnxruntime

    if site is not None and not Path(onnxruntime.__file__).is_relative_to(site):
        raise ImportError(f"onnxruntime comes from {onnxruntime.__file__}, not from {site}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    results = []
    for model, feeds in jobs:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        results.append([session.run(None, feed) for feed in feeds])
    target.write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    main()
