"""The one file of a multipart form, written as it arrives."""

from __future__ import annotations

from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from paddlevid.serve.limits import Refused

FIELD = b"file"


class FilePart:
    """Writes the field `file` of a form into `sink` and passes over all other fields.

    Args:
        content_type: that of the request; it tells what separates the parts.

    Raises:
        Refused: no boundary is told (400).
    """

    def __init__(self, content_type: str, sink: IO[bytes]) -> None:
        self._sink = sink
        self._name = ""
        self._num_files = 0
        self._is_file = False
        self._field, self._value = bytearray(), bytearray()
        self._disposition = b""
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise Refused(400, "the multipart form has no boundary in its content type")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._write,
                },
            )
        except FormParserError as error:
            raise Refused(400, f"the multipart form cannot be read: {error}") from None

    def feed(self, piece: bytes) -> None:
        """Read the next piece of the body.

        Raises:
            Refused: it is no form, or has two files (400).
        """
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise Refused(400, f"the multipart form cannot be read: {error}") from None

    def finish(self) -> str:
        """The client's name of the file, once the body is there.

        Raises:
            Refused: the form ends early or has no file (400), or an empty one (422).
        """
        if self._parser.state != MultipartState.END:
            raise Refused(400, "the multipart form ends before its last boundary")
        if not self._num_files:
            raise Refused(400, "the multipart form has no field `file`")
        if not self._sink.tell():
            raise Refused(422, "the field `file` is empty; send a video")
        return self._name

    def _begin_part(self) -> None:
        self._is_file = False
        self._disposition = b""

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._field, self._value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        options = parse_options_header(self._disposition)[1]
        self._is_file = options.get(b"name") == FIELD
        if self._is_file:
            self._num_files += 1
            self._name = options.get(b"filename", b"").decode("utf-8", "replace")
        if self._num_files > 1:
            raise Refused(400, "the multipart form has more than one field `file`; send one video a request")

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._sink.write(data[start:end])
