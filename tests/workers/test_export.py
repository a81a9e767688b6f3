from __future__ import annotations

import json
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from evals.suite import Split, Suite
from search.intervals import interval
from search.outcome import Score
from search.recipe import Recipe, Step, mixture
from tests.workers.lora import factors, save_adapter
from tests.workers.tiny_zoo import make_suite, make_zoo
from workers.checkpoints.card import model_card
from workers.export import export
from workers.messages import Export, Exported, Form, Rejected, Zoo
from workers.resident import Resident
from workers.verify import Request, Unverified, disagreements, score_in_fresh_process

TIES = Recipe(
    method="ties",
    parents=("p0", "p1"),
    parameters={"weight": ((0.7, 0.4),), "density": ((0.5, 0.5),)},
)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return make_suite(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return make_zoo(tmp_path_factory.mktemp("zoo"), dtype="bfloat16")


@pytest.fixture(scope="module")
def resident(zoo: Zoo) -> Resident:
    torch.set_num_threads(1)
    return Resident(zoo, device="cpu")


@pytest.fixture(scope="module")
def made(
    resident: Resident, suite: Suite, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Exported]:
    folder = tmp_path_factory.mktemp("artifacts") / TIES.digest
    folder.mkdir()
    (folder / "stale").touch()
    card = {
        "search": "tiny",
        "models": {"base": "lab/base", "p0": "lab/zero"},
        "sha256": {"base/model.safetensors": "ab" * 32, "p1/model.safetensors": "cd" * 32},
    }
    resident.materializer.materialize(mixture(("base",), (1.0,)))
    base = resident.evaluator(replace(suite, split=Split.REPORT)).score()
    result = export(Export(TIES, suite, str(folder), card, baselines=(("base", base),)), resident)
    assert isinstance(result, Exported), result
    return folder, result


def test_transformers_loads_it_and_computes_the_same_logits_to_the_bit(
    made: tuple[Path, Exported], resident: Resident, zoo: Zoo
) -> None:
    folder, _ = made
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, zoo.dtype)).eval()
    tokens = AutoTokenizer.from_pretrained(folder)("abcabc hg", return_tensors="pt").input_ids
    resident.materializer.materialize(TIES)
    with torch.no_grad():
        expected, found = (model(tokens).logits for model in (resident.model, loaded))
        resident.materializer.materialize(mixture(("p0",), (1.0,)))
        other = resident.model(tokens).logits
    assert torch.equal(expected, found)
    assert not torch.equal(other, found), "control: another recipe computes otherwise"


def test_scores_are_those_of_the_report_split(made: tuple[Path, Exported]) -> None:
    assert {score.count for score in made[1].scores.values()} == {60}


def test_the_manifest_is_the_folder_and_sha256sum_agrees(made: tuple[Path, Exported]) -> None:
    folder, result = made
    assert {file.name for file in folder.iterdir()} == set(result.files)
    for name, (_, size) in result.files.items():
        assert (folder / name).stat().st_size == size
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def test_only_the_finished_folder_is_left_not_even_what_an_earlier_attempt_wrote(
    made: tuple[Path, Exported],
) -> None:
    folder, _ = made
    assert list(folder.parent.iterdir()) == [folder]
    assert not (folder / "stale").exists()


def test_the_recipe_is_there_in_full_and_in_mergekits_words(made: tuple[Path, Exported]) -> None:
    folder, _ = made
    assert Recipe.model_validate_json((folder / "recipe.json").read_text()) == TIES
    assert yaml.safe_load((folder / "mergekit.yaml").read_text())["merge_method"] == "ties"


def test_the_model_card_names_models_scores_and_no_path(
    made: tuple[Path, Exported], zoo: Zoo
) -> None:
    folder, result = made
    text = (folder / "README.md").read_text()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["base_model"] == ["lab/base", "lab/zero", "p1"]
    assert metadata["base_model_relation"] == "merge"
    assert metadata["library_name"] == "transformers"
    bits = -result.scores["tiny_text/bits_per_byte"].value
    assert f"| bits_per_byte (lower is better) | {bits:.4f} |" in text
    accuracy = result.scores["tiny_choice/acc"]
    low, high = interval(accuracy)
    assert (
        f"| acc | {accuracy.value:.4f} | {low:.4f} to {high:.4f} | {accuracy.stderr:.4f} | 60 |"
        in text
    )
    assert "| base | tiny_choice | acc | " in text
    assert "| base | tiny_text | bits_per_byte | " in text
    assert f"{'cd' * 32}  p1/model.safetensors" in text
    assert f"with `ties` by nichemerge, seed {TIES.seed}; recipe `{TIES.digest[:16]}`" in text
    assert str(Path(zoo.base).parent) not in text
    assert "- search: tiny" in text


PATH = TIES.model_copy(
    update={
        "path": (
            Step(layer=0),
            Step(model="p0", layer=1, scale=1.1),
            Step(model="p1", layer=0),
            Step(layer=1, scale=0.95),
        )
    }
)


def test_a_path_is_exported_as_the_model_that_was_scored(
    resident: Resident, suite: Suite, tmp_path: Path
) -> None:
    """A fresh process, which knows of no path, has scored the folder before it is there."""
    result = export(Export(PATH, suite, str(tmp_path / "out")), resident)
    assert isinstance(result, Exported), result
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.bfloat16).eval()
    assert loaded.config.num_hidden_layers == len(loaded.model.layers) == 4
    resident.materializer.materialize(PATH)
    tokens = AutoTokenizer.from_pretrained(tmp_path / "out")(
        "abc hg", return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        assert torch.equal(resident.model(tokens).logits, loaded(tokens).logits)
    written = sum(file.stat().st_size for file in (tmp_path / "out").glob("*.safetensors"))
    plain = Path(resident.zoo.base, "model.safetensors").stat().st_size
    layer = sum(p.numel() * 2 for p in loaded.model.layers[0].parameters())
    assert written - plain == pytest.approx(2 * layer, abs=2000)  # the header, too
    assert "layer" in json.loads((tmp_path / "out" / "recipe.json").read_text())["path"][0]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "4 layers in the order of its path" in card


def test_a_folder_that_scores_otherwise_is_found_out(
    made: tuple[Path, Exported], resident: Resident, suite: Suite, tmp_path: Path
) -> None:
    """The control of every export: weights that were written wrong do not pass."""
    source, _ = made
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    resident.materializer.materialize(TIES)
    expected = resident.evaluator(suite).score()
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.down_proj.weight"] *= 1.01
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    request = Request(folder=folder, dtype=resident.zoo.dtype, device="cpu", threads=1, suite=suite)
    (text,) = disagreements(expected, score_in_fresh_process(request))[-1:]
    assert text.startswith("tiny_text/bits_per_byte differs on ")


def test_a_folder_that_cannot_be_loaded_says_why(suite: Suite, tmp_path: Path) -> None:
    request = Request(folder=tmp_path, dtype="float32", device="cpu", threads=1, suite=suite)
    with pytest.raises(Unverified, match="config"):
        score_in_fresh_process(request)


def score(*examples: float) -> Score:
    return Score(0.0, 0.0, len(examples), np.array(examples, dtype=np.float32))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"t/acc": [1.0, 0.0], "t/bits": [-200.0, -3.00001]}, []),
        ({"t/acc": [1.0, 1.0], "t/bits": [-200.0, -3.0]}, ["t/acc differs on 1 of 2"]),
        ({"t/acc": [1.0, 0.0], "t/bits": [-200.1, -3.1]}, ["t/bits differs on 2 of 2"]),
        ({"t/acc": [1.0, 0.0]}, ["t/bits has another number of examples"]),
        ({"t/acc": [1.0, 0.0], "t/bits": [np.nan, -3.0]}, ["t/bits differs on 1 of 2"]),
    ],
)
def test_accuracies_agree_exactly_and_likelihoods_to_five_digits(
    found: dict[str, list[float]], words: list[str]
) -> None:
    expected = {"t/acc": score(1, 0), "t/bits": score(-200, -3)}
    arrays = {key: np.array(values, dtype=np.float32) for key, values in found.items()}
    assert disagreements(expected, arrays) == words


@pytest.mark.parametrize(("last", "expected"), [("mit", "mit"), ("gpl-3.0", None)])
def test_a_licence_that_all_models_share_is_the_merges(
    tmp_path: Path, last: str, expected: str | None
) -> None:
    names = {"base": "mit", "p0": "mit", "p1": last}
    for name, stated in names.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text(f"---\nlicense: {stated}\n---\n")
    folders = {name: str(tmp_path / name) for name in names}
    text = model_card(
        TIES,
        Zoo(folders["base"], (("p0", folders["p0"]), ("p1", folders["p1"])), "float32"),
        scores={},
        higher_is_better={},
        models={name: name for name in names},
        sha256={},
        details={},
        mergekit=None,
    )
    assert yaml.safe_load(text.split("---\n")[1]).get("license") == expected


@pytest.fixture(scope="module")
def of_adapters(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Resident:
    """The same base, whose parents are two adapters that change it visibly."""
    folder = tmp_path_factory.mktemp("adapters")
    modules = {"model.layers.0.self_attn.q_proj": (32, 32), "model.layers.1.mlp.up_proj": (64, 32)}
    parents = tuple(
        (name, str(save_adapter(folder / name, factors(modules, rank=2, seed=seed))))
        for seed, name in enumerate(("p0", "p1"))
    )
    return Resident(Zoo(zoo.base, parents, zoo.dtype), device="cpu")


SUM = Recipe(method="task_arithmetic", parents=("p0", "p1"), parameters={"weight": ((0.3, 0.2),)})


@pytest.mark.parametrize("rank", [None, 1])
def test_a_merge_of_adapters_is_exported_as_the_adapter_that_was_scored(
    of_adapters: Resident, suite: Suite, tmp_path: Path, rank: int | None
) -> None:
    form = Form(kind="adapter", rank=rank)
    result = export(Export(SUM, suite, str(tmp_path / "out"), form=form), of_adapters)
    assert isinstance(result, Exported), result
    weights = load_file(tmp_path / "out" / "adapter_model.safetensors")
    ranks = {len(tensor) for name, tensor in weights.items() if "lora_A" in name}
    assert ranks == {rank or 4}
    assert (result.error > 0.01) == (rank is not None)
    card = (tmp_path / "out" / "README.md").read_text()
    assert ("- relative error of the change: " in card) == (rank is not None)
    # PEFT, which is no part of us, makes a model of it that scores the same.
    base = AutoModelForCausalLM.from_pretrained(of_adapters.zoo.base, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PEFT, about transformers
        folded = PeftModel.from_pretrained(base, tmp_path / "out").merge_and_unload()
    folded.to(torch.bfloat16).save_pretrained(tmp_path / "folded")
    AutoTokenizer.from_pretrained(of_adapters.zoo.base).save_pretrained(tmp_path / "folded")
    request = Request(
        folder=tmp_path / "folded", dtype="bfloat16", device="cpu", threads=1, suite=suite
    )
    report = replace(suite, split=Split.REPORT)
    found = score_in_fresh_process(request.model_copy(update={"suite": report}))
    for key, score in result.scores.items():
        assert np.abs(found[key].mean() - score.examples.mean()) <= 0.02 * np.abs(score.value), key


def test_what_is_no_sum_of_adapters_says_so(
    of_adapters: Resident, resident: Resident, suite: Suite, tmp_path: Path
) -> None:
    adapter = Form(kind="adapter")
    for models, recipe, says in (
        (of_adapters, TIES, "'ties' is no weighted sum"),
        (resident, SUM, "models.p0: is a whole checkpoint"),
    ):
        result = export(Export(recipe, suite, str(tmp_path / "out"), form=adapter), models)
        assert isinstance(result, Rejected)
        assert result.reason.startswith("this merge is no adapter: ")
        assert says in result.reason
    assert not (tmp_path / "out").exists()
