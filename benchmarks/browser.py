"""From the release of a slider to the painted figure, in a real Chromium, beside the bare evaluation.

    python -m benchmarks.browser [--moves 40] [--json]

A mouse drags the sparsity slider of Explore to positions that nobody has visited, and back to some that were. The
browser itself notes the moment of the release and the frame in which the estimate and the exact figure were painted.
"""

import argparse
import json
import random
import shutil
import sys
import time
from typing import Any

from benchmarks import bare, summary
from benchmarks.server import running_app

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
WATCHER = """() => {
  window.released = 0; window.seen = [];
  document.addEventListener('pointerup', () => { window.released = performance.now(); }, true);
  document.addEventListener('mouseup', () => { window.released = performance.now(); }, true);
  let last = '';
  new MutationObserver(() => {
    const line = [...document.querySelectorAll('[data-testid=stCaptionContainer]')]
      .map(element => element.innerText).find(text => /(Exact|Estimate|Previous)/.test(text)) || '';
    if (line === last) return;
    last = line;
    requestAnimationFrame(() => setTimeout(() => window.seen.push([performance.now(), line]), 0));
  }).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        sys.exit("The benchmark needs Chromium: install it (Debian: apt-get install chromium).")
    return found


class Hand:
    """Drags the slider with a label, and waits for the figure."""

    def __init__(self, page: Any, label: str) -> None:
        self.page, self.label = page, label

    def drag(self, share: float, wait: float = 10.0) -> tuple[str, float | None, float]:
        """To a share of the track: the settings of the exact figure, seconds to the estimate and to it.

        Where the exact figure came before the estimate was painted there is no estimate."""
        slider = self.page.get_by_test_id("stSlider").filter(has_text=self.label).first
        thumb, track = slider.get_by_role("slider").locator("xpath=../..").bounding_box(), slider.bounding_box()
        y, inset = thumb["y"] + thumb["height"] / 2, thumb["width"] / 2
        mouse = self.page.mouse
        mouse.move(thumb["x"] + thumb["width"] / 2, y)
        mouse.down()
        mouse.move(track["x"] + inset + share * (track["width"] - 2 * inset), y, steps=3)
        before = self.status()
        self.page.evaluate("window.seen.length = 0")
        mouse.up()
        end = time.monotonic() + wait
        time.sleep(0.8)  # whoever asks the browser how far it is slows it down
        while time.monotonic() < end:
            released, seen = self.page.evaluate("[window.released, window.seen]")
            done = [(at, text) for at, text in seen if "Exact" in text and text != before]
            if done:
                early = [at for at, text in seen if "Estimate" in text]
                return done[0][1], (early[0] - released) / 1000 if early else None, (done[0][0] - released) / 1000
            time.sleep(0.3)
        raise TimeoutError(f"No exact figure after {wait} s; the page says {self.status()!r}.")

    def status(self) -> str:
        texts = self.page.get_by_test_id("stCaptionContainer").all_inner_texts()
        return next((text for text in texts if "Exact" in text), "")


def measure(address: str, baseline: str, moves: int, seed: int = 0) -> dict[str, Any]:
    """Figures of one baseline, in seconds."""
    from playwright.sync_api import sync_playwright

    rng = random.Random(seed)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{address}/?baseline={baseline}&sparsity=0.7&bits=6&activations=6")
        page.get_by_text("Exact").first.wait_for(timeout=120_000)
        page.wait_for_timeout(3000)
        page.evaluate(WATCHER)
        hand, unseen, again, visited = Hand(page, "Sparsity"), [], [], {}
        share = 0.7
        while len(unseen) < moves:
            share = next(other for other in iter(lambda: rng.uniform(0.05, 0.95), None) if abs(other - share) > 0.05)
            text, first, exact = hand.drag(share)
            if text not in visited:
                unseen.append((exact if first is None else first, exact))
            visited.setdefault(text, share)
            page.wait_for_timeout(rng.uniform(300, 900))
        for text, share in rng.sample(sorted(visited.items()), min(len(visited), max(5, moves // 4))):
            if text != hand.status():  # where it stands already nothing would move
                again.append(hand.drag(share)[2])
                page.wait_for_timeout(300)
        browser.close()
    first, exact = zip(*unseen, strict=True)
    found, alone = summary(exact), bare(baseline, rng)
    return {
        "moves": len(unseen),
        "estimate_s": summary(first),
        "exact_s": found,
        "seen_s": summary(again),
        "bare_s": alone,
        "over_bare": {
            "times": round(found["median"] / alone["median"], 2),
            "more_s": round(found["median"] - alone["median"], 3),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=40)
    parser.add_argument("--baselines", default="mlp,cnn")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with running_app() as (address, _):
        found = {name: measure(address, name, arguments.moves) for name in arguments.baselines.split(",")}
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"{'':6}{'moves':>6}  {'first estimate':>18}  {'exact':>18}  {'seen before':>18}  {'bare evaluation':>18}")
    for name, row in found.items():
        cells = [f"{own['median']:.3f} ({own['p95']:.3f})" for key, own in row.items() if key.endswith("_s")]
        print(f"{name:6}{row['moves']:6}  " + "  ".join(f"{cell:>18}" for cell in cells))
        over = row["over_bare"]
        print(f"{'':6}exact over bare: {over['times']:.2f} times, {over['more_s']:+.3f} s")
    print("seconds from release to painted figure, median (95th percentile)")


if __name__ == "__main__":
    main()
