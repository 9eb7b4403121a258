"""Storage of step results: Prefect's result files, kept below the artifacts root by its store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from prefect.context import FlowRunContext
from prefect.filesystems import WritableFileSystem
from prefect.logging import get_run_logger
from pydantic import PrivateAttr

from src.artifacts import Artifacts
from src.records.layout import RESULT_LIMIT
from src.storage import StorePath
from tasks.caching import DecisionLog

__all__ = ["step_results"]


class StepResults(WritableFileSystem):
    """Result files of steps, one per cache key, in one folder of a store."""

    _block_type_name = "Step results"
    _block_type_slug = "step-results"
    _folder: StorePath = PrivateAttr()
    _has_warned: bool = PrivateAttr(default=False)

    @classmethod
    def in_folder(cls, folder: StorePath) -> "StepResults":
        """Return the result files in `folder`."""
        results = cls()
        results._folder = folder
        return results

    def read_path(self, path: str, *, _sync: bool = True) -> bytes:  # type: ignore[override]
        """Read a result file.

        Raises:
            FileNotFoundError: There is no such file.
            OSError, CorruptFileError: The file cannot be read.
        """
        file = self._file(path)
        data = file.read(RESULT_LIMIT)
        if data is None:
            raise FileNotFoundError(f"{file}: no such result.")
        return data

    def write_path(  # type: ignore[override]
        self, path: str, content: bytes, *, _sync: bool = True
    ) -> None:
        """Write or replace a result file.

        Raises:
            OSError, ValueError: The file cannot be written. The run continues without it, and logs
                the first such error as a warning.
        """
        try:
            self._file(path).replace(content)
        except (OSError, ValueError) as error:  # Prefect logs this at the level DEBUG
            if not self._has_warned:
                self._has_warned = True
                get_run_logger().warning("Results of steps are not cached: %s", error)
            raise

    async def aread_path(self, path: str) -> bytes:
        """Read a result file; see `read_path`."""
        return self.read_path(path)

    async def awrite_path(self, path: str, content: bytes) -> None:
        """Write or replace a result file."""
        self.write_path(path, content)

    def _file(self, path: str) -> StorePath:
        return self._folder / PurePath(path).name

    def _resolve_path(self, path: str) -> Path:
        """Return the location that Prefect records for a key."""
        return Path(str(self._folder)).resolve() / path


@contextmanager
def step_results(artifacts: Artifacts) -> Iterator[DecisionLog]:
    """Store the results of the steps that the block calls, in `.cache/` of the artifacts root.

    The results only save time: if they are deleted, the steps run again and change nothing.

    Yields:
        The cache decisions of those steps.
    """
    context = FlowRunContext.get()
    if context is None:
        raise RuntimeError("step_results: no flow run. Call it within a flow.")
    storage = StepResults.in_folder(artifacts.cache)
    store = context.result_store.model_copy(update={"result_storage": storage})
    with (
        context.model_copy(update={"result_store": store}),
        DecisionLog().recording() as decisions,
    ):
        yield decisions
