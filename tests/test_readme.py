"""What the README says is read off the code, or checked against it."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from api.settings import Settings
from search.optimizer import optimizers
from search.spec import SearchSpec, parse_spec
from workers.merging.merge_method import methods

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.S)
    return yaml.safe_load(block)


def test_the_example_spec_follows_the_json_schema(example: dict[str, Any]) -> None:
    schema = SearchSpec.model_json_schema()
    jsonschema.validate(example, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**example, "metod": "ties"}, schema)


def test_the_example_spec_names_a_method_and_an_optimizer_that_exist(
    example: dict[str, Any],
) -> None:
    spec = parse_spec(example)
    assert spec.method in methods
    optimizers[spec.optimizer.name].options.model_validate(spec.optimizer.options)


@pytest.mark.parametrize("method", list(methods), ids=lambda method: method.name)
def test_methods_are_in_the_table(method: Any) -> None:
    declaration = method.declaration
    assert f"| `{declaration.name}` | {declaration.summary} | {declaration.source} |" in README


@pytest.mark.parametrize("optimizer", list(optimizers), ids=lambda optimizer: optimizer.name)
def test_optimizers_are_in_the_table(optimizer: Any) -> None:
    assert f"| `{optimizer.name}` | {optimizer.summary} | {optimizer.source} |" in README


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_settings_are_in_the_table(name: str) -> None:
    assert f"| `NICHEMERGE_{name.upper()}` |" in README
