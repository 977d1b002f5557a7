"""The networks whose weights `paddlevid.weights` reads, written anew under the names of their authors.

They are tools of the tests alone: `tests/golden/make_golden.py` computes the reference arrays with them, and
`tests/weights/test_parity.py` compares them with our models live.
"""
