"""How good are the frames that a world model makes, and is its memory alive?"""
