"""Simulators as files: a trained world model in a folder, with all that is needed to step in it.

`simulator.py` has the `Simulator` and reads and writes its folder, whose files `folder.py` names. `registry.py` gives
folders Gymnasium ids when `lssvwm_env` is imported, `listing.py` shows them, and `hub.py` shares them.
"""
