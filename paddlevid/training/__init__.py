"""What a training run is made of; `train.py` has the loop itself."""
