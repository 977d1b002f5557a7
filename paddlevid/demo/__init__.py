"""A page in the browser on top of an exported folder: upload a clip, see its labels and where the model looks."""
