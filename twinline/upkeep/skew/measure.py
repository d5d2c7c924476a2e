"""`measure_skew`: every hop in causal order, so that a fault is named where it enters and not where it shows.

rules ─> release files ─> tokens ─> words ─> training framework ─> each format ─> Triton's tokenizer
    ─> Triton by gRPC, HTTP, stable name ─> stored golden ─> search ─> query words ─> fusion ─> live sample
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from twinline.contract.encoder.encoder_record import read_deviations
from twinline.contract.encoder.selfcheck import check_process
from twinline.contract.errors import ContractError, MismatchError, TransientError
from twinline.upkeep.skew import hops
from twinline.upkeep.skew.pieces import Live, Offline, SamplePlan, Subject
from twinline.upkeep.skew.report import CannotRunError, Hop, SkewReport
from twinline.upkeep.skew.sample import measure_sample
from twinline.upkeep.skew.word_hops import FUSION_HOP, QUERY_WORDS_HOP, WORDS_HOP, fusion_hop, query_words_hop, words_hop

_FILES: Final = "release files"
_UNTRUSTED = "the release's files are not what its manifest says: nothing is loaded from them"


def measure_skew(subject: Subject, offline: Offline, live: Live, sample: SamplePlan | None = None) -> SkewReport:
    """Measure a release hop by hop, then the live sample. Hops after a broken one still run, to show how far it reaches.

    Raises:
        TransientError: a dependency is away, and no other hop was broken.
    """
    away: list[TransientError] = []
    measured = [_run(name, hop, away) for name, hop in _first_hops(subject, offline)]
    # Changed weights and graphs are not run, not even for a measurement.
    is_whole = next(hop.state for hop in measured if hop.name == _FILES) == "ok"
    for name, hop in hops.offline_hops(subject, offline):
        measured.append(_run(name, hop, away) if is_whole else Hop(name, "not run", _UNTRUSTED))
    measured += [_run(name, hop, away) for name, hop in _live_hops(subject, live)]
    for name, hop in _search_hops(subject, offline, live):
        measured.append(_run(name, hop, away) if is_whole else Hop(name, "not run", _UNTRUSTED))
    manifest = subject.manifest
    report = partial(
        SkewReport,
        manifest.release,
        manifest.space,
        manifest.fingerprints.contract,
        tuple(measured),
        deviations=_deviations(subject) if is_whole else (),
    )
    if sample is None or not is_whole:
        done = report(sample_reason="not asked for" if is_whole else _UNTRUSTED)
    else:
        try:
            done = report(sample=measure_sample(sample, offline, manifest, subject.golden.stored_limit))
        except TransientError as exc:
            away.append(exc)
            done = report(sample_reason=str(exc))
        except MismatchError as exc:
            # A broken hop has named it; without one it would go unsaid.
            done = report(sample_reason=str(exc))
            if done.ok:
                raise
    if away and done.ok:
        raise away[0]
    return done


def _deviations(subject: Subject) -> tuple[str, ...]:
    # The last bucket of serving is the contract's limit.
    return read_deviations(subject.folder / "encoder", max(subject.manifest.serving.length_buckets))


def refused_release(release: str, exc: MismatchError) -> SkewReport:
    """Return the report of a release whose folder cannot even be opened."""
    rules = _run("rules", partial(hops.rules_hop, check_process), [])
    return SkewReport(release, "", "", (rules, Hop(_FILES, "broken", str(exc))), sample_reason=_UNTRUSTED)


def _first_hops(subject: Subject, offline: Offline) -> list[tuple[str, Callable[[], Hop]]]:
    return [
        ("rules", partial(hops.rules_hop, offline.check_rules)),
        (_FILES, partial(hops.files_hop, subject)),
        ("tokens", lambda: hops.tokens_hop("tokens", subject.golden, lambda *call: offline.encode(*call).token_ids)),
        (WORDS_HOP, partial(words_hop, subject, offline)),
    ]


def _live_hops(subject: Subject, live: Live) -> list[tuple[str, Callable[[], Hop]]]:
    golden, manifest = subject.golden, subject.manifest
    largest = min(hops.BATCH_TEXTS, manifest.serving.max_batch_size)
    listed: list[tuple[str, Callable[[], Hop]]] = [
        ("triton tokenizer", partial(hops.tokens_hop, "triton tokenizer", golden, live.token_ids, largest))
    ]
    for name, embedder in live.embedders.items():
        listed.append((name, partial(hops.embedder_hop, name, golden, embedder, manifest.space)))
    listed.append(("triton embed", partial(_stable_hop, live)))
    listed.append(("stored golden", partial(hops.stored_hop, golden, live.read_golden)))
    return listed


def _search_hops(subject: Subject, offline: Offline, live: Live) -> list[tuple[str, Callable[[], Hop]]]:
    listed: list[tuple[str, Callable[[], Hop]]] = [("search", partial(hops.search_hop, subject.golden, offline, live.search))]
    if offline.words is not None:
        listed.append((QUERY_WORDS_HOP, partial(query_words_hop, subject.golden, offline, live)))
        listed.append((FUSION_HOP, partial(fusion_hop, subject, offline, live)))
    return listed


def _stable_hop(live: Live) -> Hop:
    if live.stable is None:
        raise CannotRunError("no release is active, so the name `embed` stands for none")
    return hops.embedder_hop("triton embed", live.stable.golden, live.stable.embedder, live.stable.embedder.space)


def _run(name: str, hop: Callable[[], Hop], away: list[TransientError]) -> Hop:
    try:
        return hop()
    except CannotRunError as exc:
        return Hop(name, "not run", str(exc))
    except TransientError as exc:
        away.append(exc)
        return Hop(name, "not run", str(exc))
    except ContractError as exc:
        return Hop(name, "broken", str(exc))
