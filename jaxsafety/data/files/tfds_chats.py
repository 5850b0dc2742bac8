"""Dialogues as a TFDS data set in array_record: random access from disk, without TensorFlow.

Prepared once, read by `tables.read_rows` or by anything that reads TFDS:
`tfds.builder_from_directory(DIR).as_data_source("train")[i]` is one dialogue.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.data.files.sources import read_chats


@cache
def _builder() -> Any:
    """The class of the data set: made once it is asked for, since only then TFDS is imported."""
    import tensorflow_datasets as tfds

    class Chats(tfds.core.GeneratorBasedBuilder):
        """One split, "train": {"messages": [{"role", "content"}, ...]} per row."""

        VERSION = tfds.core.Version("1.0.0")

        def __init__(self, *, source: str | Path, **kwargs: Any) -> None:
            """Remembers the file that `sources.read_chats` reads."""
            self.source = source
            super().__init__(file_format="array_record", **kwargs)

        def _info(self) -> tfds.core.DatasetInfo:
            turn = {"role": tfds.features.Text(), "content": tfds.features.Text()}
            features = tfds.features.FeaturesDict({"messages": tfds.features.Sequence(turn)})
            return self.dataset_info_from_configs(
                features=features, description="Dialogues.", disable_shuffling=True
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            del dl_manager  # nothing is downloaded
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, Any]]:
            for index, messages in enumerate(read_chats(self.source, "--chats")):
                yield index, {"messages": [message._asdict() for message in messages]}

    return Chats


def prepare(source: str | Path, out: Path) -> Path:
    """Writes dialogues as a prepared data set.

    Args:
      source: what `sources.read_chats` reads.
      out: a directory to make.

    Returns:
      The directory to read: `out`/chats/1.0.0.

    Raises:
      UsageError: rows that are no dialogues, or a directory that is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise bad("--out", str(out), "a directory that does not exist yet or is empty")
    read_chats(source, "--chats")  # before anything is written
    builder = _builder()(source=source, data_dir=str(out))
    builder.download_and_prepare()
    return Path(builder.data_path)
