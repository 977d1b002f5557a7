"""The frames of a video file, in one pass, less those that nobody wants."""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

from paddlevid.data.pyav_container import demux, open_container, video_stream
from paddlevid.data.rgb import to_rgb
from paddlevid.deploy.streaming.streams import DEFAULT_FPS, Damage, StreamFrame, Wants

# Packets held back until the next picture is known: H.264 puts back in order at most 16. With fewer, fewer are skipped.
LOOKAHEAD = 40
# Codecs whose files mark what no other picture is made from, and whose packets hold one picture that is shown.
SKIPPABLE_CODECS = {"h264", "mpeg2video", "mpeg4"}
MAX_FREEZE_SEC = 0.5  # a longer stillness near damage is a gap
SUSPECT_SEC = 5.0  # how long behind damage
# Of containers that tell how long all their streams are: frames may end so much earlier, of which both must be passed.
MAX_SHORT_SEC, MAX_SHORT_SHARE = 2.0, 0.1
# Others are guessed from bit rates, or from the last packets that are there.
FORMATS_THAT_TELL = ("matroska", "flv", "asf")


class VideoFile:
    """A video file, decoded once from its beginning to its end.

    Times are those at which the frames are shown, less the beginning of the file, as players count. What cannot be
    decoded is left out and told in `damage`; the next frame has `after_gap`.
    """

    is_live = False

    def __init__(self, path: str, duration_sec: float | None = None) -> None:
        self.name = path
        self.damage: Damage | None = None
        self.end_sec = 0.0
        self._limit_sec = float("inf") if duration_sec is None else duration_sec
        self._stopped = False
        with open_container(path, "pyav") as container:
            stream = video_stream(container)
            self.fps = float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
            self._unit_sec = float(stream.time_base)
            # Where the first packets have no times, the file counts from 0
            self._zero_sec = (container.start_time or 0) / 1e6
            first_sec = 0.0 if stream.start_time is None else stream.start_time * self._unit_sec - self._zero_sec
            self.start_sec = max(0.0, first_sec)
            self._promised_sec = None if stream.duration is None else self.start_sec + stream.duration * self._unit_sec
            whole = self._promised_sec
            if whole is None and container.duration and len(container.streams) == 1:
                whole = container.duration / 1e6
            self.duration_sec = None if whole is None else min(whole, self._limit_sec)

    def frames(self, wants: Wants | None = None) -> Iterator[StreamFrame]:
        with open_container(self.name, "pyav") as container:
            stream = video_stream(container)
            stream.codec_context.thread_count = 1
            is_avi = "avi" in container.format.name
            knows_times = not (is_avi and stream.codec_context.has_b_frames)  # AVI counts packets, not pictures
            is_plain = stream.codec_context.name in SKIPPABLE_CODECS and not is_avi
            judged = self._judge(demux(container, stream), wants if is_plain else None)
            after_gap, last_sec, suspect_until_sec = False, self.start_sec - 1 / self.fps, 0.0
            for frame in self._decode(stream.codec_context, judged, is_plain):
                if frame is None:
                    after_gap, suspect_until_sec = True, last_sec + SUSPECT_SEC
                    self._note_damage(last_sec + 1 / self.fps)
                    continue
                shown = self._seconds(frame.pts) if knows_times and frame.pts is not None else last_sec
                jump_sec = shown - last_sec
                last_sec = shown if jump_sec > 0 else last_sec + 1 / self.fps
                if last_sec >= self._limit_sec or self._stopped:
                    self.end_sec = min(last_sec, self._limit_sec)
                    return
                length = frame.duration * self._unit_sec if getattr(frame, "duration", None) else 1 / self.fps
                self.end_sec = last_sec + length
                froze = jump_sec > MAX_FREEZE_SEC and last_sec < suspect_until_sec
                yield StreamFrame(last_sec, partial(to_rgb, frame), after_gap or froze)
                after_gap = False
            self._close(after_gap or not knows_times)

    def stop(self) -> None:
        self._stopped = True

    def _close(self, trust_frames: bool) -> None:
        """Find the end, which frames skipped last put off, and whether it came too early."""
        if not trust_frames:
            self.end_sec = min(max(self.end_sec, self._last_packet_sec), self._limit_sec)
        if self.damage is not None:
            return
        if self._promised_sec is not None:
            whole_sec, is_short = self._promised_sec, self._promised_sec - self.end_sec > 1.0
        else:
            whole_sec, is_own = self._told_sec()
            missing_sec = whole_sec - self.end_sec
            is_short = missing_sec > max(MAX_SHORT_SEC, MAX_SHORT_SHARE * whole_sec)
            if is_short and not is_own:  # sound may go on behind the pictures
                missing_sec = whole_sec - self._last_of_all_sec()
                is_short = missing_sec > max(MAX_SHORT_SEC, MAX_SHORT_SHARE * whole_sec)
        if is_short and self.end_sec < self._limit_sec - 1.0:
            self._reason = f"ends at {self.end_sec:.1f} s of {whole_sec:.1f} s"
            self._note_damage(self.end_sec)

    def _told_sec(self) -> tuple[float, bool]:
        """When the pictures end, or all streams do, by what the file itself tells; 0 where it does not."""
        with open_container(self.name, "pyav") as container:
            if not container.duration or not container.format.name.startswith(FORMATS_THAT_TELL):
                return 0.0, False
            whole_sec = container.duration / 1e6
            stream = video_stream(container)
            with contextlib.suppress(UnicodeDecodeError):  # titles are in any encoding
                tag = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
                if tag:
                    own_sec = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) - self._zero_sec
                    return min(own_sec, whole_sec), True  # what another program has left there may be wrong
            return whole_sec, len(container.streams) == 1

    def _last_of_all_sec(self) -> float:
        """When the last packet of any stream ends."""
        import av

        last_sec = 0.0
        with open_container(self.name, "pyav") as container, contextlib.suppress(av.error.FFmpegError):
            for packet in container.demux():
                if packet.pts is not None:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    last_sec = max(last_sec, float(end) - self._zero_sec)
        return last_sec

    def _note_damage(self, time_sec: float) -> None:
        first = self.damage or Damage(time_sec, self._reason, 0)
        self.damage = first._replace(num_places=first.num_places + 1)

    def _decode(self, context: Any, judged: Iterator[tuple[Any, bool]], is_plain: bool) -> Iterator[Any]:
        """Frames in the order in which they are shown; None where some could not be decoded.

        Decoders leave out in silence what they cannot repair: with `is_plain`, each packet must give its frame.
        """
        import av

        packets = iter(judged)
        expected: set[int] = set()
        last_pts = None
        while True:
            try:
                packet, is_unwanted = next(packets)
                context.skip_frame = "NONREF" if is_unwanted else "DEFAULT"
                decoded = packet.decode()
            except StopIteration:
                return
            except av.error.InvalidDataError as error:
                self._reason = error.strerror
                yield None
                continue
            except av.error.FFmpegError as error:  # the file cannot be read on
                self._reason = error.strerror
                yield from context.decode(None)
                yield None
                return
            if packet.is_corrupt:
                self._reason = "data are missing"
                yield None
            if is_plain and not is_unwanted and not packet.is_discard and packet.pts is not None:
                expected.add(packet.pts)
            for frame in decoded:
                lost = {pts for pts in expected if frame.pts is not None and pts < frame.pts}
                expected -= {*lost, frame.pts}
                freeze = 0 if last_pts is None or frame.pts is None else frame.pts - last_pts
                last_pts = frame.pts
                if frame.is_corrupt or (lost and freeze * self._unit_sec > MAX_FREEZE_SEC):
                    self._reason = "pictures are damaged"
                    yield None
                if not frame.is_corrupt:
                    yield frame

    def _judge(self, packets: Iterator[Any], wants: Wants | None) -> Iterator[tuple[Any, bool]]:
        """Each packet, and whether nobody wants its frame.

        A frame is shown until the next one, which may lie further on in the file, or have come before: packets are
        held back until it must have been seen.
        """
        import av

        waiting: deque[Any] = deque()
        times: list[int] = []
        self._last_packet_sec = self.start_sec
        broken = None
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.FFmpegError) as error:
                broken = error
                break
            if packet.pts is not None:
                insort(times, packet.pts)
                del times[: -2 * LOOKAHEAD]
                shown_until = self._seconds(packet.pts + (packet.duration or 0))
                self._last_packet_sec = max(self._last_packet_sec, shown_until)
            waiting.append(packet)
            if len(waiting) > LOOKAHEAD:
                yield waiting[0], self._is_unwanted(waiting.popleft(), times, wants)
        for packet in waiting:
            yield packet, self._is_unwanted(packet, times, wants)
        if not isinstance(broken, StopIteration):
            raise broken

    def _is_unwanted(self, packet: Any, times: list[int], wants: Wants | None) -> bool:
        if wants is None or packet.pts is None:
            return False
        rank = bisect_right(times, packet.pts)
        if rank == len(times) or rank == 0 or (rank > 1 and times[rank - 2] == packet.pts):
            return False  # the last frame, a time long past, or one that two packets claim
        return not wants(self._seconds(packet.pts), self._seconds(times[rank]))

    def _seconds(self, units: int) -> float:
        return units * self._unit_sec - self._zero_sec

    _reason = ""
    _last_packet_sec = 0.0
