"""The core does not depend on an engine."""

import json

MODULES = """
import importlib, json, pkgutil, sys
for name in ("prefect", "pydantic", "rich"):
    sys.modules[name] = None  # importing it fails
import src
names = [module.name for module in pkgutil.walk_packages(src.__path__, "src.")]
for name in names:
    importlib.import_module(name)
print(json.dumps(names))
"""

RUN = """
import json, sys
from src.training.pipeline import run_training_pipeline
run_training_pipeline("configs/training/mistral_finetune.yaml", "model_v1")
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_every_module_of_the_core_imports_without_the_engine(start):
    names = json.loads(start(MODULES).end())
    assert {
        "src.environment",
        "src.evaluation.evaluator",
        "src.lineage.verify.checks",
        "src.records.canonical",
        "src.storage.folder",
        "src.training.pipeline",
    } <= set(names)


def test_a_run_of_the_pipeline_does_not_import_the_engine(start, project):
    loaded = set(json.loads(start(RUN).end()))
    assert "yaml" in loaded
    assert loaded & {"prefect", "pydantic", "rich", "fastapi", "httpx", "sqlalchemy"} == set()
    assert (project / "artifacts/evaluations/model_v1/evaluation.json").is_file()


def test_a_run_of_the_pipeline_does_not_import_modules_for_errors_or_large_data(start, project):
    loaded = set(json.loads(start(RUN).end()))
    assert loaded & {"asyncio", "concurrent", "difflib", "uuid"} == set()


def test_importing_the_core_adds_no_log_handler_and_creates_no_file(start, tmp_path):
    code = """
import logging, os
from src.training import pipeline
print(logging.getLogger().handlers, os.listdir())
"""
    code = f"import os; os.chdir({str(tmp_path)!r})\n{code}"
    assert start(code).end() == "[] []"
