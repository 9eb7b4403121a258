"""Training configs: parse the YAML that a person edits into one frozen value."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from src.components.component import SIMULATED, Component
from src.errors import CorruptFileError
from src.records.canonical import sha256
from src.records.layout import CONFIG_LIMIT
from src.storage import FolderStore, StorePath
from src.training.component_config import COMPONENT_KEYS, parse_component
from src.training.faults import ConfigError, Faults, yaml_repr
from src.training.settings import CHECKS, EXAMPLES, TrainingConfig, config_fault
from src.training.yaml12 import Entry, parse_mapping, read_config, scalar_value

__all__ = [
    "BASE",
    "CONFIGS",
    "ConfigError",
    "ConfigFile",
    "TrainingConfig",
    "base_path",
    "config_text",
    "load_training_config",
    "parse_training_config",
    "read_config_file",
]

KIND = "training config"
BASE = "base_config"
CONFIGS = Path("configs")
MAX_PATH = 1024  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigFile:
    """A training config and the file that it was read from.

    Attributes:
        config: The parsed config.
        path: The file, as the caller named it.
        sha256: SHA-256 of the bytes that were parsed, as 64 hexadecimal digits.
        trainer: What trains the model; `None` for the simulated trainer.
        evaluator: What evaluates the model; `None` for the simulated evaluator.
        base_path: The config that names trainer and evaluator, for a config that a sweep wrote.
        base_sha256: SHA-256 of that file.
    """

    config: TrainingConfig
    path: str
    sha256: str
    trainer: Component | None = None
    evaluator: Component | None = None
    base_path: str | None = None
    base_sha256: str | None = None

    @property
    def has_component(self) -> bool:
        """Whether it names a trainer or an evaluator."""
        return self.trainer is not None or self.evaluator is not None

    @property
    def component_path(self) -> str:
        """The file that names trainer and evaluator."""
        return self.base_path or self.path


def load_training_config(path: str | Path) -> TrainingConfig:
    """Read the five settings of a training config from a YAML file.

    Args:
        path: The file: UTF-8, at most 1 MiB, one mapping with the five keys of `TrainingConfig`
            and, optionally, `trainer` and `evaluator`. Scalars follow the core schema of YAML 1.2
            (`2e-5` is a number, `no` and `2024-01-01` are text).

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: The file is not a valid config; lists every fault with its line.
    """
    return read_config_file(path).config


def read_config_file(
    path: str | Path | StorePath, expected_sha256: str | None = None
) -> ConfigFile:
    """Read a training config and the digest of its file.

    Args:
        path: The file.
        expected_sha256: SHA-256 of the bytes that it must have, for a file that a sweep wrote.

    Raises:
        FileNotFoundError, ConfigError, OSError: See `load_training_config`. A config that names
            code is not valid outside of the folder `configs/` of the working directory.
        CorruptFileError: The file has other bytes; quotes none of them.
    """
    return _read(path, expected_sha256, follow_base=True)


def _read(
    path: str | Path | StorePath, expected_sha256: str | None, *, follow_base: bool
) -> ConfigFile:
    data = read_config(path, KIND)
    digest = sha256(data)
    if expected_sha256 not in (None, digest):
        raise CorruptFileError(
            f"{path}: changed after the sweep wrote it. Left as found; delete the file to have it "
            "written again."
        )
    parsed = _parse(data, str(path))
    file = ConfigFile(
        config=parsed.config,
        path=str(path),
        sha256=digest,
        trainer=parsed.trainer,
        evaluator=parsed.evaluator,
    )
    if parsed.base is None:
        _check_place(path, parsed, data)
        return file
    if not follow_base:
        raise ConfigError(f"{path}: {BASE}: a base config has no base config. Remove this key.")
    base = _read(parsed.base, None, follow_base=False)
    return replace(
        file,
        trainer=base.trainer,
        evaluator=base.evaluator,
        base_path=base.path,
        base_sha256=base.sha256,
    )


def parse_training_config(data: bytes, source: str | Path) -> TrainingConfig:
    """Parse the bytes of the training config `source`; raises as `load_training_config`."""
    return _parse(data, source).config


class _Parsed(NamedTuple):
    config: TrainingConfig
    trainer: Component | None
    evaluator: Component | None
    base: str | None


def _parse(data: bytes, source: str | Path) -> _Parsed:
    faults, values = Faults(), {}
    entries = parse_mapping(data, source, KIND, [*CHECKS, *COMPONENT_KEYS, BASE], faults)
    base = entries.pop(BASE, None)
    components = {key: entries.pop(key) for key in COMPONENT_KEYS if key in entries}
    for key, (line, node) in entries.items():
        try:
            values[key] = CHECKS[key](scalar_value(node))
        except ValueError as error:
            faults.append((line, config_fault(key, error)))
    parsed = {
        key: parse_component(key, node, line, faults) for key, (line, node) in components.items()
    }
    path = None if base is None else base_path(base, faults)
    if base is not None and components:
        faults.append(
            (base.line, f"{BASE}: the base config names trainer and evaluator. Remove these keys.")
        )
    missing = [key for key in CHECKS if key not in entries]
    faults.check(
        source, *(f"missing key {key!r}. Write e.g. `{key}: {EXAMPLES[key]}`." for key in missing)
    )
    for key, component in parsed.items():
        if component == Component(use=SIMULATED):
            parsed[key] = None
        elif component is not None and component.use == SIMULATED:
            line = components[key].line
            raise ConfigError(f"{source}:{line}: {key}: `use: {SIMULATED}` takes no other key.")
    return _Parsed(TrainingConfig(**values), parsed.get("trainer"), parsed.get("evaluator"), path)


def base_path(entry: Entry, faults: Faults) -> str:
    """Return the path of a base config; append a fault if it is not valid."""
    path = scalar_value(entry.node)
    if isinstance(path, str) and len(path) <= MAX_PATH and path.isprintable():
        return path
    reason = f"expected the path of a training config, found {yaml_repr(path)}."
    faults.append((entry.line, f"{BASE}: {reason}"))
    return ""


def _check_place(path: str | Path | StorePath, parsed: _Parsed, data: bytes) -> None:
    """Check that a config that names code is a file that people edit, not one of the record.

    A link could lead elsewhere since `data` was read. So the file is read again, without links.
    """
    named = [each.use for each in (parsed.trainer, parsed.evaluator) if each and each.names_code]
    if not named:
        return
    folder = CONFIGS.resolve()
    real = None if isinstance(path, StorePath) else Path(path).resolve()
    if (
        real is None
        or not real.is_relative_to(folder)
        or FolderStore(folder).read(real.relative_to(folder).as_posix(), CONFIG_LIMIT) != data
    ):
        raise ConfigError(
            f"{path}: names code to run ({named[0]}). Such a config is used only from the folder "
            f"{folder}. Move it there."
        )


def config_text(config: TrainingConfig, base: str | None = None) -> bytes:
    """Serialize a config to YAML that parses to the same config.

    Args:
        config: The config.
        base: The config that names its trainer and evaluator, if any does.
    """
    values = asdict(config) | ({} if base is None else {BASE: base})
    return "".join(
        f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()
    ).encode()
