"""Videos from strangers: only containers of one file each are opened, and no list of other files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddlevid.errors import DataError

if TYPE_CHECKING:
    from av.container import InputContainer

# Containers of one file each. Others, such as playlists (HLS, DASH, concat), make FFmpeg open files of the server.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,live_flv,asf,ogg,gif,"
    "apng,mxf,nut,dv,rm,wtv,yuv4mpegpipe,mjpeg"
)
# Another FFmpeg, such as decord's, may take for a playlist what this one takes for a transport stream: a file may be
# both. A playlist is known by how it begins, or by what follows an ID3 tag, which videos do not begin with.
LIST_HEADS = (b"#EXTM3U", b"ffconcat", b"ID3")


def open_container(path: str) -> InputContainer:
    """A stranger's video, opened for PyAV in a `with` block; its frames are not decoded yet.

    Raises:
        DataError: it cannot be read, or is no video of one file.
    """
    import av
    from av.error import FFmpegError

    try:
        with open(path, "rb") as file:
            head = file.read(max(map(len, LIST_HEADS)))
    except OSError as error:
        raise DataError(f"{path}: cannot read this video: {error.strerror or error}") from None
    if head.startswith(LIST_HEADS):
        raise DataError(f"{path}: not a video file of a known kind, such as MP4 or AVI: it begins as a playlist does")
    try:
        # Titles and comments may be in any encoding: nobody reads them here.
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
        return av.open(path, options=options, metadata_errors="replace")
    except FFmpegError as error:
        raise DataError(f"{path}: not a video file of a known kind, such as MP4 or AVI: {error.strerror}") from None
