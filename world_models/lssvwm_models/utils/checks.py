"""Checks of settings, each said once."""

from __future__ import annotations


def check_at_least(settings: object, **least: float) -> None:
    """Refuse attributes that are below their bounds, or no numbers; those that are None are not asked for.

    Args:
        settings: A config, or anything with these attributes.
        least: The bound of each, by name.

    Raises:
        ValueError: Naming the first that is too small, its value and its bound.
    """
    for name, bound in least.items():
        value = getattr(settings, name)
        if value is not None and not value >= bound:  # so put that NaN is refused, too
            raise ValueError(f"{name}={value!r} must be at least {bound}")


def check_share(settings: object, *names: str) -> None:
    """Refuse attributes that are not shares, numbers from 0 to 1.

    Raises:
        ValueError: Naming the first that is none, and its value.
    """
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value <= 1:  # so put that NaN is refused, too
            raise ValueError(f"{name}={value!r} must be a share, from 0 to 1")
