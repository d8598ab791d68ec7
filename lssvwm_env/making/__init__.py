"""From a world's id, or its recorded episodes, to a simulator, its card and a page about it: `lssvwm make`."""
