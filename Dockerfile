# The HTTP service of an exported model, without PaddlePaddle and without what only training needs:
#   docker build -t paddlevid-serve .
#   docker run -p 8000:8000 -v "$PWD/inference/TimeSformer":/model:ro paddlevid-serve
# The folder must hold a model of ONNX or OpenVINO: tools/export_model.py --format onnx openvino.
# Other options of paddlevid-serve go behind the name of the image, and take the place of all in CMD below:
#   docker run ... paddlevid-serve /model --host 0.0.0.0 --queue 128
# Uploads lie in /tmp while they are read: --read-only --tmpfs /tmp makes all else unchangeable.
FROM python:3.11-slim

RUN useradd --create-home --uid 10001 paddlevid
WORKDIR /opt/paddlevid
COPY setup.py pyproject.toml README.md LICENSE ./
COPY paddlevid paddlevid
RUN pip install --no-cache-dir ".[serve]"

USER paddlevid
WORKDIR /home/paddlevid
EXPOSE 8000
# Exit code 0 while /health answers 200. A large model may take a minute to load.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# Lists, not lines of a shell: nothing stands between `docker stop` and the server, which ends on SIGTERM.
ENTRYPOINT ["paddlevid-serve"]
CMD ["/model", "--host", "0.0.0.0"]
