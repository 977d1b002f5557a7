"""How fast records become batches, and what takes the time: what `tools/benchmark_data.py` measures and says."""
