"""Reading files of weights safely, and loading them so that every tensor is accounted for."""

from paddlevid.weights.load import LoadReport, load_trained, load_weights
from paddlevid.weights.read import read_state, safe_unpickle

__all__ = ["LoadReport", "load_trained", "load_weights", "read_state", "safe_unpickle"]
