"""From whatever was trained to a .tflite model that lowers: `sdk.convert(...)`, the command `sdk convert`.

    made = sdk.convert("saved_model/", "model.tflite", representative="photos/")
    made.accuracy, made.layers, made.report.problems

The core imports neither TensorFlow nor PyTorch: converters live in environments of their own (`environment`) and run in
a process of theirs (`process`, `worker`). Objects of the caller's program are converted there, where TensorFlow is
already.
"""
