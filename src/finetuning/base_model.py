"""The base model: a folder, or a commit of a repository of the Hugging Face hub."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

__all__ = ["BaseModel"]

# Weights, configuration and tokenizer: what is downloaded, and what is compared.
PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseModel:
    """A base model.

    Attributes:
        name: A folder, relative to the working directory; or a repository of the hub.
        revision: The hash of a commit of the repository; `None` for a folder.
    """

    name: str
    revision: str | None

    def folder(self) -> Path:
        """Return the folder of the model; a commit of the hub is downloaded if it is not cached.

        Raises:
            ValueError: There is no such model; starts with the name of an option.
        """
        folder = Path(self.name)
        if self.revision is None:
            if not folder.is_dir():
                raise ValueError(
                    f"model: expected a folder, found no folder {self.name!r}. The option's "
                    "default is `base_model` of the config. `make train` creates those of the "
                    "demonstrations. For a model of the Hugging Face hub, set `revision` to the "
                    "hash of a commit."
                )
        elif folder.is_dir():
            raise ValueError(
                "revision: expected none, because the model is the folder "
                f"{self.name!r}, found {self.revision!r}. Remove it."
            )
        else:
            folder = self._snapshot(self.revision)
        if not any(folder.glob("*.safetensors")):
            raise ValueError(
                f"model: {self.name}: expected weights in files *.safetensors, found none. Other "
                "formats are not loaded, because some contain code."
            )
        return folder

    def _snapshot(self, revision: str) -> Path:
        from huggingface_hub import snapshot_download  # not installed where nothing is trained

        try:
            return Path(snapshot_download(self.name, revision=revision, allow_patterns=[*PATTERNS]))
        except Exception as error:  # of the network, the hub, or the name
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"model: {self.name} at revision {revision}: neither in the local cache nor "
                f"downloaded ({reason}). If it is a folder, remove `revision`; else run "
                f"`.venv-train/bin/hf download {self.name} --revision {revision}`."
            ) from error

    def files(self) -> dict[str, str]:
        """Return the SHA-256 of each file of the model by its name."""
        return {path.name: _sha256(path) for path in _files(self.folder())}

    def check_files(self, expected: Mapping[str, str]) -> None:
        """Check that the files of the model are those that an adapter was trained on.

        Raises:
            ValueError: They are not; names each file with both digests.
        """
        found = self.files()
        faults = [
            f"{self.name}/{name}: expected {_text(expected, name)}, found {_text(found, name)}."
            for name in sorted(expected.keys() | found.keys())
            if expected.get(name) != found.get(name)
        ]
        if faults:
            raise ValueError(
                "The base model is not the one that the adapter was trained on, so the metrics "
                "would differ. Restore these files:\n" + "\n".join(faults)
            )


def _files(folder: Path) -> Iterable[Path]:
    found = {path for pattern in PATTERNS for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _text(digests: Mapping[str, str], name: str) -> str:
    return f"sha256 {digests[name]}" if name in digests else "no file"
