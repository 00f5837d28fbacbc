"""Asking for long work: the requests of jobs, and the jobs that are begun with them."""

import json
from typing import Any

from core.bench.trainings import Trainings
from core.config import CompressionConfig, Device, TrainingConfig
from core.machinery import devices, jobs
from core.machinery.store import Store
from core.measuring.front import SEARCH, STUDENTS, Goal, check_minutes

TRAIN, RECOVER, EXPORT = "train", "recover", "export"
"""Kinds of jobs, as requests and the folders of jobs name them; of a search `SEARCH`."""

Request = dict[str, Any]


def training_request(config: TrainingConfig) -> Request:
    """What the job of a training is asked for."""
    return {"kind": TRAIN, "config": config.to_dict()}


def recovery_request(name: str, config: CompressionConfig) -> Request:
    """What the job of a recovery is asked for."""
    return {"kind": RECOVER, "baseline": name, "config": json.loads(config.to_json())}


def export_request(name: str, config: CompressionConfig) -> Request:
    """What the job of an export is asked for."""
    return {"kind": EXPORT, "baseline": name, "config": json.loads(config.to_json())}


def search_request(name: str, goal: Goal, minutes: float) -> Request:
    """What the job of a search is asked for. Raises ConfigError."""
    check_minutes(minutes)
    return {"kind": SEARCH, "baseline": name, "goal": goal.to_request(), "minutes": minutes}


def students_request(data: str, goal: Goal, minutes: float, seed: int = 0) -> Request:
    """What the job of a search over families is asked for. Raises ConfigError."""
    check_minutes(minutes)
    return {"kind": STUDENTS, "data": data, "goal": goal.to_request(), "minutes": minutes, "seed": seed}


def another_device(job: jobs.Status) -> Device | None:
    """Where a job can start again that its device failed: the CPU; None where it was no device's fault."""
    return "cpu" if job.state == "failed" and devices.failed(job.events) not in (None, "cpu") else None


class Submissions:
    """Each begins a job in a process of its own and returns its id; the same request is the same job. A job that was
    done runs again only where its result is gone, or can get better. Raises OSError."""

    def __init__(self, queue: jobs.Jobs, store: Store, trainings: Trainings) -> None:
        self.queue, self.store, self.trainings = queue, store, trainings

    def submit_training(self, config: TrainingConfig) -> str:
        """Train a baseline."""

        def gone(result: dict[str, Any]) -> bool:
            return self.store.digest(f"baseline/{result.get('baseline')}") is None

        return self.queue.submit(training_request(config), gone)

    def submit_recovery(self, name: str, config: CompressionConfig) -> str:
        """Train a compressed network."""

        def gone(result: dict[str, Any]) -> bool:
            return self.trainings.history(name, config) is None or self.trainings.came_with_the_project(name, config)

        return self.queue.submit(recovery_request(name, config), gone)

    def submit_search(self, name: str, goal: Goal, minutes: float) -> str:
        """Search, or go on with an earlier search. Raises ConfigError."""
        return self.queue.submit(search_request(name, goal, minutes), lambda result: True)

    def submit_students(self, data: str, goal: Goal, minutes: float, seed: int = 0) -> str:
        """Search over families, or go on with an earlier search. Raises ConfigError."""
        return self.queue.submit(students_request(data, goal, minutes, seed), lambda result: True)

    def submit_export(self, name: str, config: CompressionConfig) -> str:
        """Export, or export again, to where `Exports.exported` finds it."""
        return self.queue.submit(export_request(name, config), lambda result: True)

    def start_again(self, job: jobs.Status, device: Device | None = None) -> str:
        """Start a job that did not end well once more, on a device of its own if one is named; its id is the same."""
        return self.queue.submit(job.request, environment={} if device is None else {devices.VARIABLE: device})
