"""Many clients against a real `paddlevid-serve` process, among them wrong, slow and hostile ones.

    python benchmarks/serve_load.py FOLDER VIDEO ... [--clients 32 --seconds 60]

Each good request must get what the offline predictor says; no answer may be an error of the server but for its limits
(503 and 504); no file may be left, and the server's open files, threads and memory must not grow. Prints a table, and
ends with code 1 if one of these does not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MB = 1 << 20
MAX_UPLOAD_MB = 8
UPLOAD_TIMEOUT_SEC = 2.0
TOLERANCE = 1e-4
# Kind of request -> share of all, and the statuses that it may get.
LIMITS = {503, 504}
KINDS: dict[str, tuple[float, set[int]]] = {
    "upload": (0.55, {200}),
    "raw body": (0.10, {200}),
    "path": (0.10, {200}),
    "not a video": (0.06, {422}),
    "damaged video": (0.04, {200, 413, 422}),
    "oversized, with length": (0.03, {413}),
    "oversized, chunked": (0.03, {413}),
    "path with ../": (0.03, {403}),
    "wrong JSON": (0.02, {400}),
    "leaves early": (0.03, {0}),
    "slow sender": (0.01, {408}),
}
GOOD = {"upload", "raw body", "path"}


@dataclass
class Tally:
    """What came back, from all clients."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    wrong: list[str] = field(default_factory=list)

    def note(self, kind: str, status: int, seconds: float, wrong: str = "") -> None:
        with self.lock:
            self.statuses[kind, status] += 1
            self.seconds[kind].append(seconds)
            if status not in KINDS[kind][1] | LIMITS:
                wrong = wrong or f"{kind}: status {status}"
            if wrong:
                self.wrong.append(wrong)


class Client:
    """Sends one kind of request after the other, drawn at random."""

    def __init__(
        self, url: str, videos: list[Path], expected: dict[Path, dict[str, float]], shares: list[float], seed: int
    ) -> None:
        import httpx

        self._rng = random.Random(seed)
        self._shares = shares
        self._videos, self._expected = videos, expected
        self._address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def run(self, tally: Tally, deadline: float) -> None:
        while time.monotonic() < deadline:
            kind = self._rng.choices(list(KINDS), self._shares)[0]
            video = self._rng.choice(self._videos)
            started = time.perf_counter()
            try:
                status, wrong = self._send(kind, video)
            except Exception as error:  # what a client sees when a server misbehaves is what is being looked for
                status, wrong = -1, f"{kind}: {type(error).__name__}: {error}"
            tally.note(kind, status, time.perf_counter() - started, wrong)
            if status == 503:
                time.sleep(0.2 * self._rng.random())
        self._http.close()

    def _send(self, kind: str, video: Path) -> tuple[int, str]:
        """Status and what was wrong with the answer; status 0 for a client that did not wait for it."""
        send: dict[str, Callable[[Path], tuple[int, str]]] = {
            "upload": lambda video: self._post(video, files={"file": (video.name, video.read_bytes())}),
            "raw body": lambda video: self._post(video, content=video.read_bytes(), headers=RAW),
            "path": lambda video: self._post(video, json={"path": video.name}),
            "not a video": lambda _: self._post(files={"file": ("x.mp4", self._rng.randbytes(5000))}),
            "damaged video": lambda video: self._post(files={"file": ("x.mp4", self._damage(video))}),
            "oversized, with length": lambda _: self._post(content=bytes((MAX_UPLOAD_MB + 2) * MB), headers=RAW),
            "oversized, chunked": lambda _: self._post(content=iter([bytes(MB)] * (MAX_UPLOAD_MB + 4)), headers=RAW),
            "path with ../": lambda video: self._post(json={"path": f"../{video.parent.name}/{video.name}"}),
            "wrong JSON": lambda _: self._post(content=b"{", headers={"content-type": "application/json"}),
            "leaves early": self._leave_early,
            "slow sender": self._send_slowly,
        }
        return send[kind](video)

    def _post(self, video: Path | None = None, **options: object) -> tuple[int, str]:
        """Post something; the answer is compared with what the offline predictor says of `video`."""
        answer = self._http.post("/predict", params={"top_k": 1000}, **options)  # type: ignore[arg-type]
        body = answer.json()
        if answer.status_code != 200:
            return answer.status_code, "" if list(body) == ["error"] else f"an error of another form: {body}"
        found = {prediction["name"]: prediction["score"] for prediction in body["predictions"]}
        if video is None:
            return 200, ""
        expected = self._expected[video]
        difference = max((abs(found.get(name, 9.0) - score) for name, score in expected.items()), default=9.0)
        return 200, "" if difference <= TOLERANCE else f"{video.name}: off by {difference:.3g}"

    def _damage(self, video: Path) -> bytes:
        content = bytearray(video.read_bytes())
        for _ in range(self._rng.choice([3, 30, 300])):
            content[self._rng.randrange(len(content))] = self._rng.randrange(256)
        return bytes(content[: self._rng.randrange(len(content) // 2, len(content))])

    def _leave_early(self, video: Path) -> tuple[int, str]:
        """Send half of a video, or all of it, and go."""
        content = video.read_bytes()
        sent = content[: self._rng.choice([len(content) // 2, len(content)])]
        with socket.create_connection(self._address, timeout=30) as connection:
            connection.sendall(RAW_HEAD % len(content) + sent)
            time.sleep(0.02 * self._rng.random())
        return 0, ""

    def _send_slowly(self, video: Path) -> tuple[int, str]:
        with socket.create_connection(self._address, timeout=30) as connection:
            connection.sendall(RAW_HEAD % 100_000)
            answer = threading.Event()
            thread = threading.Thread(target=self._drip, args=[connection, answer])
            thread.start()
            status = connection.recv(65536).split()[1]
            answer.set()
            thread.join()
        return int(status), ""

    @staticmethod
    def _drip(connection: socket.socket, stop: threading.Event) -> None:
        while not stop.wait(0.1):
            try:
                connection.sendall(b"x")
            except OSError:
                return


RAW = {"content-type": "video/mp4"}
RAW_HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\nContent-Length: %d\r\n\r\n"


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    files: int
    threads: int
    memory_mb: float
    cpu_sec: float

    @classmethod
    def by(cls, process_id: int) -> Held:
        process = Path(f"/proc/{process_id}")
        memory_kb = next(
            int(line.split()[1]) for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS")
        )
        times = (process / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
        return cls(
            files=len(list((process / "fd").iterdir())),
            threads=len(list((process / "task").iterdir())),
            memory_mb=round(memory_kb / 1024, 1),
            cpu_sec=sum(map(int, times)) / os.sysconf("SC_CLK_TCK"),
        )


def held_at_rest(process_id: int, at_most: Held | None = None) -> Held:
    """What a process holds once its last connections are closed: at once, or up to 7 s after they were left alone."""
    deadline = time.monotonic() + (7.0 if at_most else 1.0)
    while True:
        time.sleep(0.2)
        held = Held.by(process_id)
        is_small = at_most and held.files <= at_most.files and held.threads <= at_most.threads
        if is_small or time.monotonic() > deadline:
            return held


def start_server(args: argparse.Namespace, temp_dir: Path) -> tuple[subprocess.Popen[str], str]:
    root = args.videos[0].parent
    command = [sys.executable, "-m", "paddlevid.serve", args.folder, "--port", 0, "--root", root, "--queue", args.queue]
    command += ["--max_upload_mb", MAX_UPLOAD_MB, "--upload_timeout_sec", UPLOAD_TIMEOUT_SEC]
    command += ["--runtime", args.runtime, "--batch_size", args.batch_size, "--batch_wait_ms", args.batch_wait_ms]
    command += ["--threads", args.threads] if args.threads else []
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temp_dir)},
        stdout=subprocess.PIPE,
        stderr=(temp_dir / "stderr.txt").open("w"),
        text=True,
    )
    assert process.stdout is not None
    first_line = process.stdout.readline()
    if "http://" not in first_line:
        raise SystemExit((temp_dir / "stderr.txt").read_text())
    return process, first_line.split()[-1]


def run_clients(args: argparse.Namespace, url: str, expected: dict[Path, dict[str, float]], seconds: float) -> Tally:
    tally = Tally()
    deadline = time.monotonic() + seconds
    shares = [float(kind == "upload") if args.only_uploads else share for kind, (share, _) in KINDS.items()]
    clients = [Client(url, args.videos, expected, shares, seed) for seed in range(args.clients)]
    threads = [threading.Thread(target=client.run, args=[tally, deadline]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


def settle(url: str) -> str:
    """Wait until no request is there; return the metrics."""
    import httpx

    while True:
        text = httpx.get(f"{url}/metrics", trust_env=False).text
        if "paddlevid_queue_length 0.0" in text:
            return text
        time.sleep(0.05)


def metric(text: str, name: str) -> float:
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.split("{")[0].split()[0] == name)


def print_table(tally: Tally, seconds: float, metrics: str) -> None:
    print(f"{'request':24}{'count':>7}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}  statuses")
    for kind, found in tally.seconds.items():
        if not found:
            continue
        p50, p95, p99 = 1000 * np.percentile(found, [50, 95, 99])
        statuses = {status: count for (of, status), count in sorted(tally.statuses.items()) if of == kind}
        shown = ", ".join(f"{status or 'left'}: {count}" for status, count in statuses.items())
        print(f"{kind:24}{len(found):7}{p50:9.1f}{p95:9.1f}{p99:9.1f}  {shown}")
    good = sum(tally.statuses[kind, 200] for kind in GOOD)
    total = sum(tally.statuses.values())
    per_run = metric(metrics, "paddlevid_batch_views_sum") / max(1.0, metric(metrics, "paddlevid_batch_views_count"))
    print(f"{total} requests, {total / seconds:.1f} a second; {good / seconds:.1f} videos a second answered")
    print(f"{per_run:.2f} views a run; {metric(metrics, 'paddlevid_decoder_restarts_total'):g} decoders replaced")


def find_faults(tally: Tally, before: Held, after: Held, left: list[Path], exit_code: int, stderr: str) -> list[str]:
    faults = [f"{count} x {what}" for what, count in Counter(tally.wrong).most_common(10)]
    if left:
        faults.append(f"{len(left)} files of uploads are left: {left[:3]}")
    if after.files > before.files or after.threads > before.threads:
        faults.append(f"open files or threads grew: {before} -> {after}")
    if after.memory_mb > 1.25 * before.memory_mb + 64:
        faults.append(f"memory grew: {before} -> {after}")
    if exit_code:
        faults.append(f"the server ended with code {exit_code}")
    if "Traceback" in stderr:
        faults.append(f"the server's log has a traceback: {stderr[-2000:]}")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an exported model")
    parser.add_argument("videos", type=Path, nargs="+", help="videos of one folder")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--queue", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--batch_wait_ms", type=float, default=5)
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--threads", type=int, help="of the model")
    parser.add_argument("--only_uploads", action="store_true", help="good uploads alone, to measure throughput")
    args = parser.parse_args()
    args.videos = [video.resolve() for video in args.videos]
    if len({video.parent for video in args.videos}) != 1:
        parser.error("the videos must lie in one folder")
    from paddlevid.deploy.predictor import Predictor

    predictor = Predictor(args.folder, runtime=args.runtime)
    expected = {video: {found.name: found.score for found in predictor(video, top_k=1000)} for video in args.videos}
    del predictor
    with tempfile.TemporaryDirectory() as temporary:
        faults = measure(args, Path(temporary), expected)
    for fault in faults:
        print(f"FAULT: {fault}")
    sys.exit(1 if faults else 0)


def measure(args: argparse.Namespace, temp_dir: Path, expected: dict[Path, dict[str, float]]) -> list[str]:
    process, url = start_server(args, temp_dir)
    try:
        run_clients(args, url, expected, seconds=min(3.0, args.seconds / 4))  # what first requests allocate
        settle(url)
        before = held_at_rest(process.pid)
        started = time.perf_counter()
        tally = run_clients(args, url, expected, args.seconds)
        seconds = time.perf_counter() - started
        metrics = settle(url)
        after = held_at_rest(process.pid, at_most=before)
        left = list(temp_dir.glob("paddlevid-serve-*/*/*"))
        process.send_signal(signal.SIGTERM)
        exit_code = process.wait(30)
        left += list(temp_dir.glob("paddlevid-serve-*/*"))
    finally:
        process.kill()
        process.wait()
    print_table(tally, seconds, metrics)
    cpu_ms = 1000 * (after.cpu_sec - before.cpu_sec) / max(1, sum(tally.statuses[kind, 200] for kind in GOOD))
    print(f"{cpu_ms:.1f} ms of CPU a video answered, without decoding\nbefore: {before}\nafter:  {after}")
    return find_faults(tally, before, after, left, exit_code, (temp_dir / "stderr.txt").read_text())


if __name__ == "__main__":
    main()
