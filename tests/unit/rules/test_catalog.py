from __future__ import annotations

import inspect

import pytest

from poolnet.model.registry import MESSAGES
from poolnet.rules.catalog import RULES

CONSTRUCTORS = {name for name in RULES if name.endswith(".create") and MESSAGES[name].kind != "explicit"}


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_takes_the_parameters_of_its_message(name: str) -> None:
    parameters = list(inspect.signature(RULES[name]).parameters.values())
    assert parameters[0].name == "ctx"
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters[1:])
    expected = ["record"] if name in CONSTRUCTORS else [p.name for p in MESSAGES[name].params]
    assert [p.name for p in parameters[1:]] == expected


@pytest.mark.parametrize("name", sorted(RULES.keys() - CONSTRUCTORS))
def test_a_rule_has_the_defaults_of_its_message(name: str) -> None:
    declared = {p.name: p.default for p in MESSAGES[name].params if p.has_default}
    parameters = inspect.signature(RULES[name]).parameters
    found = {n: p.default for n, p in parameters.items() if p.default is not inspect.Parameter.empty}
    assert found == declared


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_says_what_it_does(name: str) -> None:
    assert RULES[name].__doc__
