"""Training configs: parse the YAML that a person edits into one frozen value."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from src.components.component import SIMULATED, Component
from src.errors import CorruptFileError
from src.names import nearest
from src.records.canonical import sha256
from src.records.layout import CONFIG_LIMIT
from src.storage import FolderStore, StorePath, is_url
from src.training.component_config import COMPONENT_KEYS, SEED, check_seed, parse_component
from src.training.faults import ConfigError, Faults, yaml_repr
from src.training.settings import CHECKS, EXAMPLES, TrainingConfig, config_fault
from src.training.yaml12 import Entry, json_value, parse_mapping, read_config, scalar_value

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
    "with_options",
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
        base_path: The config that names trainer and evaluator, for a config that a sweep wrote. It
            may have other values for their options.
        base_sha256: SHA-256 of that file.
        changed_options: The options for which it has other values than that file; see
            `with_options`.
    """

    config: TrainingConfig
    path: str
    sha256: str
    trainer: Component | None = None
    evaluator: Component | None = None
    base_path: str | None = None
    base_sha256: str | None = None
    changed_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_component(self) -> bool:
        """Whether it names a trainer or an evaluator."""
        return bool(self.components)

    @property
    def components(self) -> dict[str, Component]:
        """Those of `trainer` and `evaluator` that it names, by key."""
        named = {"trainer": self.trainer, "evaluator": self.evaluator}
        return {key: component for key, component in named.items() if component is not None}

    @property
    def component_path(self) -> str:
        """The file that names trainer and evaluator."""
        return self.base_path or self.path


def load_training_config(path: str | Path) -> TrainingConfig:
    """Read the five settings of a training config from a YAML file.

    Args:
        path: The file: UTF-8, at most 1 MiB, one mapping with the five keys of `TrainingConfig`
            and, optionally, `trainer` and `evaluator`, or `base_config` with options such as
            `trainer.rank`. Scalars follow the core schema of YAML 1.2 (`2e-5` is a number, `no` and
            `2024-01-01` are text).

    Raises:
        FileNotFoundError: There is no such file, or no such base config.
        ConfigError: The file is not a valid config; lists every fault with its line.
    """
    return read_config_file(path).config


def read_config_file(
    path: str | Path | StorePath, expected_sha256: str | None = None
) -> ConfigFile:
    """Read a training config and the digest of its file.

    Args:
        path: The file.
        expected_sha256: SHA-256 that its bytes must have, for a file that a sweep wrote.

    Raises:
        FileNotFoundError, ConfigError, OSError: See `load_training_config`. A config that names
            code is not valid outside of the folder `configs/` of the working directory.
        CorruptFileError: The file has another SHA-256; the message quotes nothing of the file.
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
    try:
        trainer, evaluator = with_options(base, parsed.options)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    return replace(
        file,
        trainer=trainer,
        evaluator=evaluator,
        base_path=base.path,
        base_sha256=base.sha256,
        changed_options=parsed.options,
    )


def parse_training_config(data: bytes, source: str | Path) -> TrainingConfig:
    """Parse the bytes of the training config `source`; raises as `load_training_config`."""
    return _parse(data, source).config


class _Parsed(NamedTuple):
    """The contents of a config; `base` and `options` of one that a sweep wrote."""

    config: TrainingConfig
    trainer: Component | None
    evaluator: Component | None
    base: str | None
    options: dict[str, Any]


def _parse(data: bytes, source: str | Path) -> _Parsed:
    faults, values = Faults(), {}
    keys = [*CHECKS, *COMPONENT_KEYS, BASE]
    entries = parse_mapping(data, source, KIND, keys, faults, groups=COMPONENT_KEYS)
    base = entries.pop(BASE, None)
    options = _options(entries, faults, has_base=base is not None)
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
    trainer, evaluator = (parsed.get(kind) for kind in COMPONENT_KEYS)
    return _Parsed(TrainingConfig(**values), trainer, evaluator, path, options)


def _options(entries: dict[str, Entry], faults: Faults, *, has_base: bool) -> dict[str, Any]:
    """Take the options of the components out of the entries of a config, e.g. `trainer.rank`."""
    options = {}
    for key in [key for key in entries if key.partition(".")[0] in COMPONENT_KEYS and "." in key]:
        line, node = entries.pop(key)
        try:
            options[key] = json_value(node)
        except ValueError as error:
            faults.append((line, f"{key}: {error}"))
        if not has_base:
            kind, _, option = key.partition(".")
            place = "seed: ..." if option == SEED else f"options: {{{option}: ...}}"
            faults.append((line, f"{key}: expected a mapping. Write it as `{kind}: {{{place}}}`."))
    return options


def with_options(
    base: ConfigFile, options: Mapping[str, Any]
) -> tuple[Component | None, Component | None]:
    """Return trainer and evaluator of a config with other options.

    Args:
        base: The config.
        options: Values by the path of the option, e.g. `trainer.rank` or `trainer.optimizer.name`.
            `trainer.seed` is the seed.

    Raises:
        ValueError: The config does not name this component; the path is that of another of its
            keys, or leads into something other than a mapping of its options.
    """
    components = {"trainer": base.trainer, "evaluator": base.evaluator}
    for path, value in options.items():
        kind, _, option = path.partition(".")
        component = components[kind]
        if component is None:
            raise ValueError(
                f"{path}: {base.path} has no {kind}, so it has no options. Remove this key, or add "
                f"the {kind} there."
            )
        first, _, rest = option.partition(".")
        if first != SEED and first in COMPONENT_KEYS[kind]:
            hint = f"Write `{kind}.{rest}`." if first == "options" and rest else "Remove this key."
            raise ValueError(f"{path}: only the seed and the options of a {kind} may vary. {hint}")
        if option == SEED:
            try:
                components[kind] = replace(component, seed=check_seed(value))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        else:
            changed = _with_option(component.options, kind, option.split("."), value)
            components[kind] = replace(component, options=changed)
    return components["trainer"], components["evaluator"]


def _with_option(
    options: Mapping[str, Any], place: str, path: Sequence[str], value: Any
) -> dict[str, Any]:
    """Return options with another value at a path; `place` names the options in an error."""
    name, *rest = path
    if not rest:
        return {**options, name: value}
    if name not in options:
        near = nearest(name, options)
        raise ValueError(f"{place}.{name}: the base config has no such option. Nearest: {near}.")
    inner, place = options[name], f"{place}.{name}"
    if not isinstance(inner, Mapping):
        raise ValueError(f"{place}: expected a mapping, found {yaml_repr(inner)}.")
    return {**options, name: _with_option(inner, place, rest, value)}


def base_path(entry: Entry, faults: Faults) -> str:
    """Return the path of a base config; append a fault if it is not valid."""
    path = scalar_value(entry.node)
    if isinstance(path, str) and len(path) <= MAX_PATH and path.isprintable() and not is_url(path):
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
    real = None if isinstance(path, StorePath) or is_url(path) else Path(path).resolve()
    if (
        real is None
        or not real.is_relative_to(folder)
        or FolderStore(folder).read(real.relative_to(folder).as_posix(), CONFIG_LIMIT) != data
    ):
        raise ConfigError(
            f"{path}: names code to run ({named[0]}). Such a config is used only from the folder "
            f"{folder}. Move it there."
        )


def config_text(
    config: TrainingConfig, base: str | None = None, options: Mapping[str, Any] | None = None
) -> bytes:
    """Serialize a config to YAML that parses to the same config.

    Args:
        config: The config.
        base: The config that names its trainer and evaluator, if any does.
        options: Options of these with other values than there; see `with_options`.
    """
    values = {**asdict(config), **({} if base is None else {BASE: base}), **(options or {})}
    return "".join(f"{_key(key)}: {_yaml(value)}\n" for key, value in values.items()).encode()


def _key(key: str) -> str:
    return key if key == key.strip() else _yaml(key)


def _yaml(value: object) -> str:
    """Return a JSON value in one line of YAML, which takes some characters for line ends."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in text)
