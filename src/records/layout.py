"""Layout of the artifacts root: the name of every folder and file, and the size limit per file.

<root>/
  datasets/<dataset version>/data.jsonl, metadata.json
  models/registry.json
  models/<model version>/metadata.json, provenance.json
  models/<model version>/training.jsonl, weights/          (not with the simulated trainer)
  evaluations/<model version>/evaluation.json, provenance.json
  evaluations/<model version>/earlier/<digest>/            (evaluations that were replaced)
  sweeps/<grid>-<digest>.yaml                              (a config)
  sweeps/<grid>-<digest>.json                              (a leaderboard)
  reports/report.html, verdicts.json                      (of the last audit)
  .cache/<step>-<digest>-<digest>
  .work/<model version>/                                   (while a model is trained)

In an object store, training.jsonl and the files of weights/ lie below a further folder, whose name
is the digest of their contents; see `Store.place`.
"""

from src.names import REGISTRY_FILE

__all__ = [
    "CACHE_FOLDER",
    "CONFIG_LIMIT",
    "DATASETS_FOLDER",
    "DATA_FILE",
    "EVALUATIONS_FOLDER",
    "EVALUATION_FILE",
    "HISTORY_FILE",
    "HISTORY_LIMIT",
    "METADATA_FILE",
    "METADATA_LIMIT",
    "MODELS_FOLDER",
    "REGISTRY_FILE",
    "REGISTRY_LIMIT",
    "REPORTS_FOLDER",
    "REPORT_FILE",
    "RESULT_LIMIT",
    "STATEMENT_FILE",
    "STATEMENT_LIMIT",
    "SWEEPS_FOLDER",
    "VERDICTS_FILE",
    "VERDICTS_LIMIT",
    "WEIGHTS_FOLDER",
    "WORK_FOLDER",
]

DATASETS_FOLDER = "datasets"
MODELS_FOLDER = "models"
EVALUATIONS_FOLDER = "evaluations"
SWEEPS_FOLDER = "sweeps"
REPORTS_FOLDER = "reports"
CACHE_FOLDER = ".cache"
WORK_FOLDER = ".work"
WEIGHTS_FOLDER = "weights"

DATA_FILE = "data.jsonl"
METADATA_FILE = "metadata.json"
STATEMENT_FILE = "provenance.json"
EVALUATION_FILE = "evaluation.json"
HISTORY_FILE = "training.jsonl"
REPORT_FILE = "report.html"
VERDICTS_FILE = "verdicts.json"

# The largest size in bytes of a file that is read into memory, by kind.
CONFIG_LIMIT = 1 << 20
METADATA_LIMIT = 1 << 24
STATEMENT_LIMIT = 1 << 26
REGISTRY_LIMIT = 1 << 30
HISTORY_LIMIT = 1 << 28
RESULT_LIMIT = 1 << 24
VERDICTS_LIMIT = 1 << 28
