"""Datasets in and out: what models are trained on, as a folder of episodes.

`collect.py` records a real environment, `videos.py` and `minari.py` import what others recorded (and export to Minari),
`check.py` shows what a folder holds and what is wrong with it. The format is `lssvwm_models.data`'s.
"""
