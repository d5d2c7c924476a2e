"""A switch under load: counts of failed searches, answers that mix two releases, and lost documents.

search and publish, without a pause ─> fetch, publish, build, verify, promote B ─> back to A ─> promote B ─> account

A and B are of two spaces. Broker, Triton, store and search API are those of `twinline up`, in a home of their own.
"""

import argparse
import collections
import difflib
import json
import os
import shutil
import statistics
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench.release_commands import Done, require, run_release, to_promote, to_roll_back
from bench.workspace import Workspace, make_workspace, running_stack
from proofs.skew.system import SHORT_SOURCE, SOURCE, release_folder
from proofs.switch.checks import AnswerChecker, Verdict
from proofs.switch.load import Asked, Searchers, latencies, longest_gap_seconds
from proofs.switch.writes import Ledger, Publisher, account, real_texts
from twinline.clients.builds import read_record
from twinline.clients.kafka.connect import committed_offsets, end_offsets
from twinline.clients.online import AdminClient
from twinline.clients.settings import Settings
from twinline.contract.canonical import JSON
from twinline.contract.release.manifest import Manifest, collection_name, consumer_group
from twinline.release.verify.index import wait_until_caught_up

CLIENTS: Final = 4
SEARCHES_PER_SECOND: Final = 24.0
# Few enough for two cores to embed twice, once a release, beside the searches: the switch is measured, not the encoder.
DOCUMENTS_PER_SECOND: Final = 2.0
_PATIENCE_SECONDS: Final = 120.0
_NAMED: Final = 5


@dataclass(frozen=True)
class Releases:
    """The two packaged releases."""

    folders: Mapping[str, Path]
    a: Manifest
    b: Manifest

    @property
    def by_id(self) -> dict[str, Manifest]:
        """Return both by their ids."""
        return {manifest.release: manifest for manifest in (self.a, self.b)}


def make_releases(workspace: Workspace) -> Releases:
    """Package both, unless they exist already."""
    folders = {name: release_folder(workspace, name) for name in ("a", "b")}
    return Releases(folders, Manifest.load(folders["a"]), Manifest.load(folders["b"]))


def measure_switch(folder: Path, seconds: float, *, short: bool = False) -> dict[str, JSON]:
    """Switch to B, back and to B again under load, and return one JSON object.

    Args:
        folder: of the system; its packaged releases are reused.
        seconds: duration of the load before the first step, after the last one, and between two switches.
        short: over few documents.
    """
    shutil.rmtree(folder / "home", ignore_errors=True)
    workspace = make_workspace(folder, {})
    releases = make_releases(workspace)
    with running_stack(workspace):
        workspace.module("twinline", "publish", "--source", SHORT_SOURCE if short else SOURCE, "--all")
        require(run_release(workspace, ["deploy", str(releases.folders["a"])]))
        return _under_load(workspace, releases, seconds)


def _under_load(workspace: Workspace, releases: Releases, seconds: float) -> dict[str, JSON]:
    settings, started = workspace.settings(), time.monotonic()
    texts = real_texts(json, argparse, difflib, collections, statistics)
    queries = [" ".join(text.split()[:10]) for text in texts]
    with closing(AdminClient(settings.admin_url)) as admin:
        with (
            Publisher(settings, texts, DOCUMENTS_PER_SECOND) as publisher,
            Searchers(settings.search_url, queries, CLIENTS, SEARCHES_PER_SECOND) as searchers,
            AnswerChecker(searchers.answers, releases.by_id, admin) as checker,
        ):
            time.sleep(seconds)
            searchers.phase = "during"
            steps, build_window = _bring_up(workspace, releases)
            switches = _switch_there_and_back(workspace, releases, seconds)
            searchers.phase = "after"
            time.sleep(seconds)
            # Before the checker, which ends once no answer is left.
            searchers.stop()
            publisher.stop()
        lost = _account(settings, releases, publisher.ledger, admin)
    estimate = build_beside_estimate(settings.home, releases.b.release)
    beside_build = [one for one in searchers.asked if build_window[0] <= one.sent_at <= build_window[1]]
    return _report(searchers.asked, checker.verdict, publisher.ledger, lost) | {
        "latency_beside_build_ms": latencies(beside_build),
        "build": estimate,
        "steps": {done.command.split()[1]: done.seconds for done in steps},
        "switches": switches,
        "releases": {name: _side(manifest) for name, manifest in (("a", releases.a), ("b", releases.b))},
        "cores": os.cpu_count() or 0,
        "seconds": round(time.monotonic() - started, 1),
    }


def build_beside_estimate(home: Path, release: str) -> JSON:
    """Return the seconds that a release's build took and was estimated to take; None where it is not on record.

    A build of few chunks leaves no record. Searches throttle this one, which no estimate knows.
    """
    record = read_record(home)
    if record is None or record.release != release:
        return None
    ratio = None if record.ratio is None else round(record.ratio, 3)
    return {"seconds": record.seconds, "estimated_seconds": record.estimated_seconds, "ratio": ratio, "chunks": record.chunks}


def _bring_up(workspace: Workspace, releases: Releases) -> tuple[list[Done], tuple[float, float]]:
    """Make B ready for promotion; return its steps, and the start and end of its collection's build."""
    b = releases.b.release
    before = [require(run_release(workspace, step)) for step in (["fetch", str(releases.folders["b"])], ["publish", b])]
    began = time.time()
    built = require(run_release(workspace, ["build", b]))
    window = (began, time.time())
    return [*before, built, require(run_release(workspace, ["verify", b]))], window


def _switch_there_and_back(workspace: Workspace, releases: Releases, seconds: float) -> list[JSON]:
    switches: list[JSON] = []
    a, b = releases.a.release, releases.b.release
    for what, command, release in (
        ("promote", to_promote(b), b),
        ("rollback", to_roll_back(a), a),
        ("promote again", to_promote(b), b),
    ):
        done = require(run_release(workspace, command))
        switches.append({"what": what, "to": release, "seconds": done.seconds})
        time.sleep(seconds)
    return switches


def _account(settings: Settings, releases: Releases, ledger: Ledger, admin: AdminClient) -> dict[str, JSON]:
    """Return missing and stale documents of both collections, once both have read the whole log."""
    missing, stale, named = 0, 0, list[JSON]()
    ends = end_offsets(settings, settings.topic)
    for release in releases.by_id:
        committed = partial(committed_offsets, settings, consumer_group(release), settings.topic)
        wait_until_caught_up(ends, committed, _PATIENCE_SECONDS)
        found = account(ledger, collection_name(release), admin)
        missing, stale, named = missing + len(found.missing), stale + len(found.stale), named + found.named()
    return {"missing": missing, "stale": stale, "missing_or_stale": named}


def _report(asked: list[Asked], verdict: Verdict, ledger: Ledger, lost: Mapping[str, JSON]) -> dict[str, JSON]:
    failures = [f"{one.phase}: {one.problem}" for one in asked if one.problem]
    span = max(one.sent_at for one in asked) - min(one.sent_at for one in asked)
    phases = ("before", "during", "after")
    return {
        "failed": len(failures),
        "mixed": verdict.mixed,
        **lost,
        "searches": len(asked),
        "searches_per_second": round(len(asked) / span, 1) if span else 0.0,
        "answers_checked": verdict.answers,
        "hits_checked": verdict.hits,
        "published": ledger.counts(),
        "release_seen": dict(collections.Counter(one.release for one in asked if not one.problem)),
        "latency_ms": {phase: latencies([one for one in asked if one.phase == phase]) for phase in phases},
        "longest_gap_seconds": longest_gap_seconds(asked),
        "failures": failures[:_NAMED],
        "mixed_reasons": list(verdict.reasons),
    }


def _side(manifest: Manifest) -> dict[str, JSON]:
    return {"release": manifest.release, "space": manifest.space}


def passed(report: Mapping[str, JSON]) -> bool:
    """Return whether nothing failed, was mixed or was lost, and whether enough answers were checked."""
    nothing_wrong = all(report[name] == 0 for name in ("failed", "mixed", "missing", "stale"))
    seen = report["release_seen"]
    return nothing_wrong and isinstance(seen, Mapping) and len(seen) == 2 and report["answers_checked"] == report["searches"]
