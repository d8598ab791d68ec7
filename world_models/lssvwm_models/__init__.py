"""World models with a fixed-size memory."""
