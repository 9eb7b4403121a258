"""The facts about a machine and an environment that can change the bytes of trained weights.

The facts were found by training the same model under each of them; see docs/training.md. Imports
only the standard library, and asks a library only if the component imported it.
"""

import contextlib
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["environment", "machine"]

VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "MKL_CBWR",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "PYTHONHASHSEED",
)
LIBRARIES = (
    "accelerate",
    "datasets",
    "numpy",
    "peft",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
)


def machine(variables: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the processor, the platform, and those of `variables` that change the bytes."""
    system = os.uname()
    return {
        "cpu": _cpu(),
        "platform": f"{system.sysname} {system.machine}",
        "variables": {name: variables[name] for name in VARIABLES if name in variables},
    }


def environment() -> dict[str, Any]:
    """Return `machine`, and the interpreter and the libraries of this process."""
    found = machine()
    found["python"] = sys.version.split()[0]
    libraries = {}
    for name in LIBRARIES:
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            libraries[name] = str(version)
    found["libraries"] = libraries
    if "torch" in libraries:
        with contextlib.suppress(Exception):  # the facts are informative
            found["torch"] = _torch()
    return found


def _torch() -> dict[str, Any]:
    torch: Any = sys.modules["torch"]
    has_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    lines = [line.strip(" -") for line in torch.__config__.show().splitlines()]
    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name() if has_gpu else "cpu",
        "mkl": next((line for line in lines if "Math Kernel Library Version" in line), ""),
        "onednn": next((line for line in lines if "MKL-DNN" in line), ""),
        "threads": torch.get_num_threads(),
    }


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
