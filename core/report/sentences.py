"""Sentences that several parts of the report say."""

from core.bench.workbench import Result
from core.report.findings import Findings
from core.report.wording import percent, size


def on(result: Result) -> str:
    return f"the {result.evaluation.images:,} {result.evaluation.split} images"


def smaller(ratio: float) -> str:
    """A compression ratio, before the size of the float32 weights."""
    return f"{ratio:,.1f}x smaller than" if ratio >= 1 else f"{1 / ratio:.2f}x as large as"


def checked(findings: Findings) -> str:
    """The verdict of the export."""
    if findings.verdict is None:
        return "Nothing was exported, so no file was read back, and nothing is said of the time that a file takes."
    where = f"the {findings.verdict.images:,} {findings.verdict.split} images"
    if findings.verdict.ok:
        return f"Each exported file was read in a process of its own and passed the check on {where}."
    return f"The exported files did NOT pass the check on {where}; the part on files says why."


def weighs(findings: Findings) -> str:
    """The size of the final model beside the baseline's."""
    test = findings.test
    than = smaller(test.compression_ratio)
    return f"The file has {size(test.bytes)}, {than} the {size(test.baseline_bytes)} of the float32 weights."


def mistake(findings: Findings) -> str:
    true, predicted, count = findings.mistake
    if not count:
        return "No test image is predicted wrong."
    text = f"The most frequent mistake on the test images is {true} taken for {predicted}, {count:,} times"
    before = findings.confusion_before.loc[true, predicted]
    return f"{text}; the baseline makes it {before:,} times." if findings.steps else f"{text}."


def right(findings: Findings) -> str:
    """How many of the test images are predicted right, without compression or with it."""
    return f"{percent(findings.test.evaluation.accuracy)} of {on(findings.test)}"
