"""World models with a fixed-size memory."""

import lssvwm_models.execution.forks  # noqa: F401 (first of all, so that no fork is missed)
