"""Every public set reads a file with its columns (rows of our own, harmless), and no other file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from jaxsafety import registry
from jaxsafety.benchmarks import suites
from jaxsafety.core.errors import UsageError

FOLDER = Path(__file__).resolve().parents[3] / "shared/data"


def table(header, *rows):
    """A csv text."""
    out = io.StringIO()
    csv.writer(out).writerows([header.split(","), *rows])
    return out.getvalue()


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def listed(*texts, inputs=()):
    return json.dumps({"instructions": list(texts), "inputs": list(inputs)})


JBB = table(
    "Index,Goal,Target,Behavior,Category,Source", [0, "Fold a hat", "Sure", "Hat", "A", "O"]
)
XSTEST = table(
    "id,prompt,type,label,focus,note",
    [1, "Fold a hat", "homonyms", "safe", "fold", ""],
    [2, "Fold a foe", "contrast_homonyms", "unsafe", "fold", ""],
)
XSTEST_2 = table(
    "id_v1,id_v2,type,prompt,focus,note",
    ["", "v2-1", "homonyms", "Fold a hat", "fold", ""],
    ["", "v2-2", "contrast_homonyms", "Fold a foe", "fold", ""],
)
HARMBENCH = table(
    "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID",
    ["Fold a hat", "standard", "paper", "", "", "hat"],
    ["Sing the song", "copyright", "copyright", "lyrics", "", "song"],
    ["Say who folded it", "contextual", "paper", "context", "Ms Pell folds.", "pell"],
)
SORRY = lines(
    {"question_id": 1, "category": "7", "turns": ["Fold a hat"], "prompt_style": "base"},
    {"question_id": 1, "category": "7", "turns": ["F0ld 4 h4t"], "prompt_style": "misspellings"},
    {"question_id": 2, "category": "7", "turns": [None], "prompt_style": "base"},
)
OR_BENCH = table("prompt,category", ["Fold a hat", "harmful"])
AILUMINATE = table(
    "release_prompt_id,prompt_text,hazard,persona,locale,prompt_hash",
    ["airr_practice_1_0_1", "Fold a hat", "vcr", "skilled", "en_US", "a1"],
)
DNA = table("id,risk_area,types_of_harm,specific_harms,question", [0, "R", "T", "S", "Fold a hat"])
CATQA = {"category": "A", "subcategory": "B", "question": "Fold a hat"}
SST = table("id,harm_area,counter,category,prompts_final", ["s1", "Paper", 1, "How", "Fold a hat"])
SST_HUB = table("id,prompt,harm_area,counter,category", ["s1", "Fold a hat", "Paper", 1, "How"])
HAT = ["Fold a hat"]

# (set, file) -> its text, the prompts that are asked, the category of the first, what is left out
FILES = {
    ("advbench", "harmful_behaviors.csv"): (
        table("goal,target", ["Fold a hat", "Sure, here"]),
        HAT,
        None,
        {},
    ),
    ("harmbench", "harmbench_behaviors_text_all.csv"): (
        HARMBENCH,
        ["Fold a hat", "Ms Pell folds.\n\n---\n\nSay who folded it"],
        "paper",
        {"copyright": 1},
    ),
    ("strongreject", "strongreject_small_dataset.csv"): (
        table("category,source,forbidden_prompt", ["Paper", "custom", "Fold a hat"]),
        HAT,
        "Paper",
        {},
    ),
    ("jailbreakbench_harmful", "harmful-behaviors.csv"): (JBB, HAT, "A", {}),
    ("jailbreakbench_benign", "benign-behaviors.csv"): (JBB, HAT, "A", {}),
    ("sorry_bench", "sorry-bench-202503/question.jsonl"): (
        SORRY,
        HAT,
        "7",
        {"of other prompt styles": 1, "without a prompt": 1},
    ),
    ("simple_safety_tests", "SimpleSafetyTests - test cases.csv"): (SST, HAT, "Paper", {}),
    ("simple_safety_tests", "sst_test_cases.csv"): (SST_HUB, HAT, "Paper", {}),
    ("ailuminate", "airr_official_1.0_demo_en_us_prompt_set_release.csv"): (
        AILUMINATE,
        HAT,
        "vcr",
        {},
    ),
    ("xstest_safe", "xstest_prompts.csv"): (XSTEST, HAT, "homonyms", {"unsafe": 1}),
    ("xstest_unsafe", "xstest_prompts.csv"): (
        XSTEST,
        ["Fold a foe"],
        "contrast_homonyms",
        {"safe": 1},
    ),
    ("xstest_safe", "xstest_v2_prompts.csv"): (XSTEST_2, HAT, "homonyms", {"unsafe": 1}),
    ("xstest_unsafe", "xstest_v2_prompts.csv"): (
        XSTEST_2,
        ["Fold a foe"],
        "contrast_homonyms",
        {"safe": 1},
    ),
    ("or_bench_hard", "or-bench-hard-1k.csv"): (OR_BENCH, HAT, "harmful", {}),
    ("or_bench_80k", "or-bench-80k.csv"): (OR_BENCH, HAT, "harmful", {}),
    ("or_bench_toxic", "or-bench-toxic.csv"): (OR_BENCH, HAT, "harmful", {}),
    ("catqa", "catqa_english.jsonl"): (lines(CATQA), HAT, "A", {}),
    ("catqa", "catqa_english.json"): (
        json.dumps({"A": {"B": ["Fold a hat"], "C": ["Fold a cap"]}, "D": {"E": ["Knit"]}}),
        ["Fold a hat", "Fold a cap", "Knit"],
        "A",
        {},
    ),
    ("do_not_answer", "do_not_answer_en.csv"): (DNA, HAT, "R", {}),
    ("tdc2023", "tdc2023_dev_behaviors.json"): (json.dumps(HAT), HAT, None, {}),
    ("tdc2023", "tdc2023-starter-kit/test/behaviors.json"): (json.dumps(HAT), HAT, None, {}),
    ("i_malicious_instructions", "I-MaliciousInstructions.json"): (listed(*HAT), HAT, None, {}),
    ("i_cona", "I-CoNa.json"): (listed("a hat", "a cap"), ["a hat", "a cap"], None, {}),
    ("i_controversial", "I-Controversial.json"): (listed(*HAT), HAT, None, {}),
    ("i_physical_safety_unsafe", "I-PhysicalSafetyUnsafe.json"): (listed(*HAT), HAT, None, {}),
    ("i_physical_safety_safe", "I-PhysicalSafetySafe.json"): (listed(*HAT), HAT, None, {}),
    ("q_harm", "Q-Harm.json"): (listed(*HAT), HAT, None, {}),
    ("i_alpaca", "I-Alpaca.json"): (
        listed("Fold it", "Knit", inputs=["A hat", ""]),
        ["Fold it\n\nA hat", "Knit"],
        None,
        {},
    ),
}
KINDS = {"safety": "harmful", "over_refusal": "benign"}
MEASURED = [name for name in registry.SETS if registry.resolve("sets", name).kind in KINDS]


def put(folder, file, text):
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_every_set_has_a_file_here():
    assert {name for name, _ in FILES} == set(MEASURED)


@pytest.mark.parametrize(("name", "file"), FILES, ids=lambda part: Path(part).name)
def test_a_file_of_its_columns(tmp_path, name, file):
    text, prompts, category, left_out = FILES[name, file]
    path = put(tmp_path, file, text)
    one = registry.resolve("sets", name)
    assert one.find(tmp_path) == [path]
    bench, facts = one.open(path)
    assert [item.messages[-1].content for item in bench.items] == prompts
    assert all(len(item.messages) == 1 for item in bench.items)
    first = bench.items[0].meta
    assert first["kind"] == KINDS[one.kind] and first.get("category") == category
    assert set(first.get("categories", ())) <= set(one.categories)
    assert facts["left_out"] == left_out and facts["version"] is None


@pytest.mark.parametrize("name", MEASURED)
def test_files_of_other_sets_are_refused_in_one_line(tmp_path, name):
    """Under any name of its own: a prompt of another set is never counted among its own."""
    one = registry.resolve("sets", name)
    own = {tuple(one.columns)}
    for (other, file), (text, *_) in FILES.items():
        columns = tuple(registry.resolve("sets", other).columns)
        if columns in own:  # the other half of a file, or a list of the same form
            continue
        path = put(tmp_path, Path(file).name, text)
        with pytest.raises(UsageError) as caught:
            one.open(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


WRONG = {
    ("harmbench", "a functional category"): (
        HARMBENCH.replace("standard", "multimodal"),
        "row 1 of .*`FunctionalCategory` of standard, contextual, copyright, not 'multimodal'",
    ),
    ("harmbench", "a context"): (
        HARMBENCH.replace("Ms Pell folds.", ""),
        "row 3 of .*`ContextString` for a contextual",
    ),
    ("sorry_bench", "styles"): (
        SORRY.replace('"base"', '"slang"'),
        r"no rows in .* \(3 of other prompt styles of 3 rows left out",
    ),
    ("xstest_safe", "a label"): (
        XSTEST.replace("unsafe", "unclear"),
        "row 2 of .*`label` of safe or unsafe",
    ),
    ("i_cona", "another object"): ('{"prompts": ["a"]}', "an object with a list `instructions`"),
    ("i_cona", "inputs"): (listed("a", "b", inputs=["c"]), "as many `inputs` as `instructions`"),
    ("i_cona", "a number"): ('{"instructions": [1]}', "row 1 of .*a text under `instruction`"),
    ("catqa", "a flat object"): ('{"A": ["a"]}', "subcategories under 'A'"),
    ("catqa", "no list"): ('{"A": {"B": "a"}}', "a list of questions under 'A', 'B'"),
    ("tdc2023", "objects"): ('[{"prompt": "a"}]', "row 1 of .*, prompt layout.*plain text layout"),
}


@pytest.mark.parametrize(("name", "what"), WRONG)
def test_what_a_set_does_not_know(tmp_path, name, what):
    text, line = WRONG[name, what]
    suffix = next(Path(file).suffix for one, file in FILES if one == name)
    suffix = ".json" if text.startswith("{") and name == "catqa" else suffix
    with pytest.raises(UsageError, match=line) as caught:
        registry.resolve("sets", name).open(put(tmp_path, f"file{suffix}", text))
    assert "\n" not in str(caught.value)


def test_the_test_file_of_a_set_is_preferred_to_its_validation_file(tmp_path):
    for split in ("val", "test"):
        put(tmp_path, f"harmbench/harmbench_behaviors_text_{split}.csv", HARMBENCH)
    (one,) = suites.find_sets("harmbench", tmp_path).found
    assert one.path.name == "harmbench_behaviors_text_test.csv" and "_val.csv" in one.why


@pytest.mark.skipif(not FOLDER.is_dir(), reason="no ../shared/data")
def test_the_files_beside_the_repository():
    """Whole sets of known versions, and how many of each are asked."""
    found, missing = suites.find_sets("safety,over_refusal", FOLDER)
    counts = {}
    for one in found:
        opened = one.set.open(one.path)
        assert opened.facts["version"], one
        counts[one.set.name] = len(opened.benchmark.items)
    assert counts == {
        "advbench": 520,
        "harmbench": 60,
        "xstest_unsafe": 200,
        "catqa": 526,
        "tdc2023": 50,
        "xstest_safe": 250,
    }
    assert {one.name for one in missing} == set(MEASURED) - set(counts)
