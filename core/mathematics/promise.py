"""What a choice promises of images that it was not made by.

A network that was chosen because it loses little on n images loses more on others, for two reasons. What it lost there
was partly chance: on new images the loss may be larger or smaller. And it was chosen: of many candidates the one that
luck favoured looks best, and the same images then say how good it is (the winner's curse; Cawley & Talbot 2010). The
first is answered by a margin, the second, which only ever flatters, by an estimate of the optimism (Efron 1983, 2004):

    lost on new images <= loss + optimism + z_c SE sqrt(1 + n / new)        with confidence c

Losses are fractions of the images. The baseline was itself the best of its epochs on these images, and looks better
there than it is: that makes every loss look larger, and the promise no weaker.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

HALVINGS = 200
"""So often the images are cut into halves."""


def standard_error(lost: int, gained: int, images: int) -> float:
    """SE = sqrt(b + c - (c - b)^2 / n) / n, of a paired difference (McNemar 1947): the deviation of (c - b) / n from
    what it would be on endlessly many images."""
    return float((lost + gained - (gained - lost) ** 2 / images) ** 0.5 / images)


def error_of_interval(low: float, high: float) -> float:
    """SE of a difference whose two-sided 95 % interval is low to high: (high - low) / (2 z_0.975)."""
    return (high - low) / (2 * NormalDist().inv_cdf(0.975))


def margin(error: float, confidence: float, share: float = 1.0) -> float:
    """z_c SE sqrt(1 + n / new): the loss on `new` images exceeds the loss on n others by more only with probability
    1 - c, where neither was chosen by.

    Both samples stray from the truth, with variances s^2 / n and s^2 / new: a prediction bound. z_c SE alone bounds
    what endlessly many images lose, and 10,000 of them exceed that more often.

    error : SE; confidence : c in (0.5, 1); share : n / new; 1 if not said otherwise: as many new images, so that more
        of them, as the test images often are, leave something to spare
    """
    return NormalDist().inv_cdf(confidence) * error * (1 + share) ** 0.5


def most_lost(loss: float, error: float, confidence: float | None, optimism: float = 0.0) -> float:
    """What is lost at most on as many new images, with this confidence; the loss as it was measured for None."""
    return loss if confidence is None else loss + optimism + margin(error, confidence)


def chosen(losses: NDArray[np.floating], sizes: NDArray[np.floating], limits: NDArray[np.floating]) -> NDArray[np.intp]:
    """The place of the smallest candidate that loses no more than its limit; where none does, of the one that is
    nearest to it.

    losses : (..., m); sizes, limits : (m,)
    """
    over = losses - limits
    fits = over <= 1e-12
    return np.where(fits.any(-1), np.where(fits, sizes, np.inf).argmin(-1), over.argmin(-1))


def optimism(
    flips: NDArray[np.int8], sizes: NDArray[np.floating], limits: NDArray[np.floating], seed: int = 0
) -> float:
    """How much less the smallest candidate within its limit seems to lose than it does, a fraction, at least 0.

    The choice is made again on a random half A of the images, and judged by the other half B, which it never saw:
    loss_B - loss_A, on average over `HALVINGS` halves, is the optimism of a choice by n / 2 images (cross-validation of
    the selection itself: Efron 1983). It grows with the deviation of a loss, as 1 / sqrt(images), so that n images have
    1 / sqrt(2) of it.

    flips : (m, n), of each candidate and image: 1 lost, -1 gained, 0 neither; sizes : (m,); limits : (m,), what each
        may lose
    """
    candidates, images = flips.shape
    if candidates < 2 or images < 2:
        return 0.0
    dice, half = np.random.default_rng(seed), images // 2
    of_half = dice.permuted(np.tile(np.arange(images) < half, (HALVINGS, 1)), axis=1).astype(np.float32)
    chosen_by = of_half @ flips.T.astype(np.float32)
    judged_by = (flips.sum(1, dtype=np.int64) - chosen_by) / (images - half)
    chosen_by /= half
    picks = chosen(chosen_by, sizes, limits)[:, None]
    gap = np.take_along_axis(judged_by - chosen_by, picks, 1).mean()
    return max(0.0, float(gap) / 2**0.5)


def smallest(
    flips: NDArray[np.int8], sizes: NDArray[np.floating], allowance: float, confidence: float | None = None
) -> int | None:
    """The place of the smallest candidate that loses at most the allowance: of these images, or with a confidence of as
    many new ones. None where none does.

    flips : (m, n), sizes : (m,), as for `optimism`
    """
    margins = np.zeros(len(flips))
    if confidence is not None:
        margins = np.array([margin(error, confidence) for error in flips.std(1) / flips.shape[1] ** 0.5])
        margins += optimism(flips, sizes, allowance - margins)
    fits = flips.mean(1) + margins <= allowance + 1e-12
    return int(np.where(fits, sizes, np.inf).argmin()) if fits.any() else None


def optimism_of_epochs(accuracies: Sequence[float], images: int) -> float:
    """How much better the best of several epochs looks than it is, a fraction, at least 0.

    Only accuracies are kept of the epochs, not what each made of every image, so the noise is modelled. Its variance
    s^2 comes from how much successive ones of the k last epochs, the second half, differ: sum (a[t+1] - a[t])^2 /
    (2 (k - 1)) (von Neumann 1941). That takes true changes for noise, too; it is no larger than the variance of one
    accuracy, a (1 - a) / n. The m epochs within 2 sqrt(2) s of the best, a difference that noise explains, count as
    equally good; the best of them is flattered by the expected maximum of m normal numbers,
    s Phi^-1((m - 3/8) / (m + 1/4)) (Blom 1958).

    accuracies : on the n `images` that the best epoch was chosen by, of those that could be kept, in their order
    """
    seen = np.array(accuracies)
    late = seen[len(seen) // 2 if len(seen) > 3 else 0 :]
    if len(late) < 2:
        return 0.0
    best = float(seen.max())
    noise = min(float(np.square(np.diff(late)).mean()) / 2, best * (1 - best) / images) ** 0.5
    alike = int((seen >= best - 2 * 2**0.5 * noise).sum())
    return noise * NormalDist().inv_cdf((alike - 0.375) / (alike + 0.25))
