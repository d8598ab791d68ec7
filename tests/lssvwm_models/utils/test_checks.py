"""Settings that cannot be are refused by name."""

from types import SimpleNamespace

import pytest

from lssvwm_models.utils.checks import check_at_least, check_share


def test_bounds_themselves_are_enough_and_what_is_none_is_not_asked_for():
    check_at_least(SimpleNamespace(steps=1, lr=0.0, context=None), steps=1, lr=0, context=1)
    check_share(SimpleNamespace(least=0.0, most=1.0), "least", "most")


@pytest.mark.parametrize("value", [0, -1, 0.999, float("nan")])
def test_what_is_too_small_is_named_with_its_value_and_bound(value):
    settings = SimpleNamespace(first=1, second=value)
    with pytest.raises(ValueError, match=f"^second={value} must be at least 1$"):
        check_at_least(settings, first=1, second=1)


@pytest.mark.parametrize("value", [-0.001, 1.001, float("nan")])
def test_what_is_no_share_is_named(value):
    settings = SimpleNamespace(first=0.5, second=value)
    with pytest.raises(ValueError, match=f"^second={value} must be a share, from 0 to 1$"):
        check_share(settings, "first", "second")
