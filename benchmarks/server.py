"""The app as people start it, for the benchmarks: on a free port, with a cache of its own, watched from inside."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
WATCH_SECONDS = 0.5


@contextmanager
def running_app(cache: Path | None = None) -> Iterator[tuple[str, Path]]:
    """The address of a server that is ready, and the file in which it keeps notes on itself (`notes`)."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = Path(folder) / "notes.json"
        environment = {**os.environ, "COMPRESSION_CACHE": str(cache or Path(folder) / "cache")}
        server = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.server", str(port), str(log)],
            cwd=PROJECT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait(f"http://localhost:{port}/_stcore/health", server)
            yield f"http://localhost:{port}", log
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(20)


def notes(log: Path) -> dict[str, Any]:
    """Memory in MB (resident), threads, and the counts of the evaluation worker, as of half a second ago at most."""
    time.sleep(2 * WATCH_SECONDS)
    found: dict[str, Any] = json.loads(log.read_text())
    return found


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except OSError:
            if server.poll() is not None:
                raise RuntimeError("The server ended before it was ready.") from None
            time.sleep(0.25)
    raise RuntimeError("The server was not ready after a minute.")


def _watch(log: Path) -> None:
    """Write down, again and again, what cannot be seen from outside."""
    while True:
        about: dict[str, Any] = {"threads": threading.active_count(), "counts": {}}
        status = Path("/proc/self/status").read_text()
        about["memory_mb"] = round(int(status.split("VmRSS:")[1].split()[0]) / 1024, 1)
        if "core.bench.workbench" in sys.modules:
            from pages.choice import state

            about["counts"] = dict(state.workbench().turns.counts)
        draft = log.with_suffix(".draft")
        draft.write_text(json.dumps(about))
        draft.replace(log)
        time.sleep(WATCH_SECONDS)


def main(port: int, log: Path) -> None:
    """`streamlit run streamlit_app.py` in this process, with somebody who takes notes."""
    from streamlit.web import bootstrap

    threading.Thread(target=_watch, args=(log,), daemon=True).start()
    options = {"server.port": port, "server.headless": True, "server.fileWatcherType": "none"}
    flags = {key.replace(".", "_"): value for key, value in options.items()}
    bootstrap.load_config_options(flags)
    bootstrap.run(str(PROJECT / "streamlit_app.py"), False, [], flags)


if __name__ == "__main__":
    sys.path.insert(0, str(PROJECT))
    main(int(sys.argv[1]), Path(sys.argv[2]))
