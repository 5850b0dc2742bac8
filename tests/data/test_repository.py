"""Which files of a data set are a split: by its card, by names, as `datasets` has it."""

import re

import pytest

from jaxsafety.data.files import repository

SHARDED = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
BY_CONFIG = ["easy/train-00000-of-00001.parquet", "hard/test.jsonl", "hard/train.jsonl"]


def choose(names, config="", split="", **card):
    return repository.files(names, card, config, split)


@pytest.mark.parametrize(
    ("names", "config", "split", "expected"),
    [
        (SHARDED[::-1], "", "", SHARDED),
        ([*SHARDED, "data/test-00000-of-00001.parquet"], "", "train", SHARDED),
        (["a.csv"], "", "", ["a.csv"]),
        (["a.csv"], "", "train", ["a.csv"]),
        (["README.md", "a.py", "a.bin", "dataset_infos.json", "x.jsonl"], "", "", ["x.jsonl"]),
        (["train.jsonl", "dev.jsonl", "about.jsonl"], "", "validation", ["dev.jsonl"]),
        (["train.jsonl", "dev.jsonl"], "", "dev", ["dev.jsonl"]),
        (["train.jsonl.gz", "train.jsonl.zst"], "", "", ["train.jsonl.gz", "train.jsonl.zst"]),
        (["harmless-base/train.jsonl.gz", "x/test.jsonl"], "harmless-base", "", [".../0"]),
        (BY_CONFIG, "easy", "", BY_CONFIG[:1]),
        (BY_CONFIG, "hard", "test", BY_CONFIG[1:2]),
        (["a/x.jsonl", "train.jsonl"], "", "", ["train.jsonl"]),  # what has no folder is default
        (["en/test/0000.parquet", "en/train/0000.parquet"], "en", "test", [".../0"]),
        (["default/train/0000.parquet", "default/train/0001.parquet"], "", "", [".../0", ".../1"]),
        (["eval_kit/train.jsonl"], "", "train", ["eval_kit/train.jsonl"]),
        (["part-1.csv", "part-0.csv"], "", "", ["part-0.csv", "part-1.csv"]),
        (["a.parquet", "b.parquet"], "", "", ["a.parquet", "b.parquet"]),
        (["harmful.csv", "harmless.csv"], "harmful.csv", "", ["harmful.csv"]),
        (["rows.txt", "LICENSE.txt", "a.csv"], "rows.txt", "", ["rows.txt"]),
        ([".hidden/train.csv", "__pycache__/test.csv", "train.csv"], "", "", ["train.csv"]),
        (["safe-00000-of-00001.parquet"], "", "safe", ["safe-00000-of-00001.parquet"]),
    ],
)
def test_by_names(names, config, split, expected):
    picked = {f".../{i}": name for i, name in enumerate(names)}
    assert choose(names, config, split) == [picked.get(name, name) for name in expected]


@pytest.mark.parametrize(
    ("names", "config", "split", "words"),
    [
        ([], "", "", "files of rows (.parquet"),
        (["a.py", "b.zip"], "", "", "it has none"),
        (["train.csv", "test.csv"], "", "", "one split of train, test"),
        (["train.csv", "test.csv"], "", "dev", "one split of train, test"),
        (["train.csv"], "", "test", "the split train"),
        (BY_CONFIG, "", "", "one configuration of easy, hard"),
        (BY_CONFIG, "soft", "", "one configuration of easy, hard"),
        (["harmful.csv", "harmless.csv"], "", "", "do not say their splits: harmful.csv, harmless"),
        (["harmful.csv"], "harmful.csv", "train", "the file harmful.csv without a split"),
        (["train.csv", "train.parquet"], "", "", "in one format, not .csv and .parquet: name one"),
        (SHARDED[1:], "", "", "all 2 parts of data/train; number 0 is not there"),
    ],
)
def test_nothing_is_guessed(names, config, split, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        choose(names, config, split)


HARD = [{"split": "train", "path": "h/*.csv"}, {"split": "test", "path": ["h/t/*", "x.csv"]}]
CONFIGS = [
    {"config_name": "easy", "data_files": "e/**/*.csv"},
    {"config_name": "hard", "data_files": HARD},
]
FILES = ["e/1.csv", "e/f/2.csv", "h/3.csv", "h/t/4.csv", "x.csv", "x.py"]


@pytest.mark.parametrize(
    ("config", "split", "expected"),
    [
        ("easy", "", ["e/1.csv", "e/f/2.csv"]),
        ("easy", "train", ["e/1.csv", "e/f/2.csv"]),
        ("hard", "train", ["h/3.csv"]),
        ("hard", "test", ["h/t/4.csv", "x.csv"]),
        ("x.csv", "", ["x.csv"]),
    ],
)
def test_by_its_card(config, split, expected):
    assert choose(FILES, config, split, configs=CONFIGS) == expected


def test_the_default_of_a_card():
    configs = [CONFIGS[0], CONFIGS[1] | {"default": True}]
    assert choose(FILES, "", "train", configs=configs) == ["h/3.csv"]
    configs = [CONFIGS[0] | {"config_name": "default"}, CONFIGS[1]]
    assert choose(FILES, "", "", configs=configs) == ["e/1.csv", "e/f/2.csv"]
    assert choose(FILES, "", "", configs=CONFIGS[:1]) == ["e/1.csv", "e/f/2.csv"]
    with pytest.raises(ValueError, match="one configuration of easy, hard"):
        choose(FILES, "", "", configs=CONFIGS)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data_dir": "h", "data_files": "*.csv"}, ["h/3.csv"]),
        ({"data_dir": "./h/t"}, ["h/t/4.csv"]),
        ({"data_files": ["x.csv", "h/[0-9].csv"]}, ["x.csv", "h/3.csv"]),
        ({"data_files": {"train": "x.c?v"}}, ["x.csv"]),
        ({"data_files": ["./x.csv", "*.csv"]}, ["x.csv"]),
        ({"data_files": "h/[!0-2].csv", "sep": ","}, ["h/3.csv"]),
    ],
)
def test_the_ways_of_a_card(change, expected):
    assert choose(FILES, configs=[{"config_name": "c", **change}]) == expected


@pytest.mark.parametrize(
    ("configs", "words"),
    [
        ([3], "have a config_name each"),
        ([{"data_files": "x.csv"}], "have a config_name each"),
        ([{"config_name": "c", "data_files": [{"split": "a"}]}], "have a split and a path each"),
        ([{"config_name": "c", "data_files": 7}], "have a split and a path each"),
        ([{"config_name": "c", "data_files": "no.csv"}], "those of its card are not there"),
        ([{"config_name": "c", "data_files": "https://x.y/a.csv"}], "its card names https"),
        ([{"config_name": "c", "data_files": "x.csv", "sep": ";"}], "the card asks for sep=';'"),
        ([{"config_name": "c", "data_files": "[z-a].csv"}], "patterns of files"),
    ],
)
def test_a_card_that_is_not_followed_is_told(configs, words):
    with pytest.raises(ValueError, match=words):
        choose(FILES, configs=configs)


@pytest.mark.parametrize(
    "names",
    [
        SHARDED,
        [*SHARDED, "data/test-00000-of-00001.parquet", "data/odd-00000-of-00001.parquet"],
        ["train.csv", "test.csv", "val.csv"],
        ["train_0.csv", "train_1.csv", "test_0.csv"],
        ["data/train/a_1.csv", "data/train/a_2.csv", "data/test/a_1.csv"],
        ["my_dataset.csv"],
        ["training-2.jsonl", "evaluation.jsonl"],
    ],
)
def test_splits_are_those_of_datasets(tmp_path, names):
    patterns = pytest.importorskip("datasets.data_files")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    theirs = patterns.get_data_patterns(str(tmp_path))
    for split, some in theirs.items():
        found = [f for p in some for f in _resolved(patterns, p, tmp_path)]
        assert choose(names, "", split) == list(dict.fromkeys(found))


def _resolved(patterns, pattern, folder):
    try:
        found = patterns.resolve_pattern(pattern, str(folder))
    except FileNotFoundError:
        return []
    return [name.removeprefix(f"{folder}/") for name in found]
