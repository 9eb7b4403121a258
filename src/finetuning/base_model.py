"""The base model: a folder, or a commit of a repository of the Hugging Face hub."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from src.errors import truncated_repr

__all__ = ["BaseModel"]

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
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

    def folder(self, *, may_download: bool = True) -> Path:
        """Return the folder of the model.

        Args:
            may_download: Whether a commit of the hub is downloaded if it is not cached.

        Raises:
            ValueError: There is no such model, or it has weights outside of its folder, where
                nothing records them; starts with the name of an option.
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
            folder = self._snapshot(self.revision, may_download)
        if not any(folder.glob("*.safetensors")):
            raise ValueError(
                f"model: {self.name}: expected weights in files *.safetensors, found none. Other "
                "formats are not loaded, because some contain code."
            )
        if (folder / ADAPTER_CONFIG).exists():
            raise ValueError(
                f"model: {self.name}: expected a whole model, found an adapter, because there is "
                f"{ADAPTER_CONFIG}. Merge it into its base model, and name the result."
            )
        known = {path.name for path in _files(folder)}
        for path, weights in _named_weights(folder):
            if weights not in known:
                raise ValueError(
                    f"model: {self.name}/{path.name}: expected names of files in this folder, "
                    f"found {truncated_repr(weights)}. Only files in the folder are recorded."
                )
        return folder

    def _snapshot(self, revision: str, may_download: bool) -> Path:
        from huggingface_hub import snapshot_download  # not installed where nothing is trained

        try:
            return Path(
                snapshot_download(
                    self.name,
                    revision=revision,
                    allow_patterns=[*PATTERNS],
                    local_files_only=not may_download,
                )
            )
        except Exception as error:  # of the network, the hub, or the name
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"model: {self.name} at revision {revision}: neither in the local cache nor "
                f"downloaded ({reason}). If it is a folder, remove `revision`; else run "
                f"`.venv-train/bin/hf download {self.name} --revision {revision}`."
            ) from error

    def files(self, *, may_download: bool = True) -> dict[str, str]:
        """Return the SHA-256 of each file of the model by its name; see `folder`."""
        folder = self.folder(may_download=may_download)
        return {path.name: _sha256(path) for path in _files(folder)}

    def check_files(self, expected: Mapping[str, str]) -> None:
        """Check that the files of the model are those that an adapter was trained on.

        Nothing is downloaded: the name of the model comes from the record of the adapter.

        Raises:
            ValueError: They are not; names each file with both digests.
        """
        found = self.files(may_download=False)
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


def _named_weights(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file of weights that an index or the configuration names, and where."""
    for path in sorted(folder.glob("*.safetensors.index.json")):
        weight_map = _read_object(path).get("weight_map")
        if isinstance(weight_map, dict):  # else transformers refuses it
            for name in dict.fromkeys(map(str, weight_map.values())):
                yield path, name
    if (file := _read_object(folder / CONFIG).get("transformers_weights")) is not None:
        yield folder / CONFIG, str(file)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):  # transformers refuses it, too
        return {}
    return value if isinstance(value, dict) else {}


def _files(folder: Path) -> Iterable[Path]:
    found = {path for pattern in PATTERNS for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _text(digests: Mapping[str, str], name: str) -> str:
    return f"sha256 {digests[name]}" if name in digests else "no file"
