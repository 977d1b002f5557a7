"""The HTTP service of an exported model: `paddlevid-serve FOLDER`."""
