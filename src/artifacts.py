"""Where the record lies: the fixed layout below the artifacts root."""

from dataclasses import dataclass
from pathlib import Path

from src.storage import confine
from src.versions import REGISTRY_NAME

__all__ = ["Artifacts"]


@dataclass(frozen=True)
class Artifacts:
    """The folders and files below one artifacts root.

    Raises:
        ValueError: A link leads the folder of the models or evaluations out of the root.
    """

    root: str | Path = "artifacts"

    def __post_init__(self) -> None:
        for folder in (self.models, self.evaluations):
            if folder.is_symlink():
                confine(folder, Path(self.root))

    @property
    def datasets(self) -> Path:
        """Folder of all dataset versions; only read."""
        return Path(self.root) / "datasets"

    @property
    def models(self) -> Path:
        """Folder of all model versions and of the registry."""
        return Path(self.root) / "models"

    @property
    def registry(self) -> Path:
        """The registry file."""
        return self.models / REGISTRY_NAME

    @property
    def evaluations(self) -> Path:
        """Folder of all evaluations."""
        return Path(self.root) / "evaluations"

    @property
    def sweeps(self) -> Path:
        """Folder of the training configs that sweeps made of grids."""
        return Path(self.root) / "sweeps"
