"""Kill -9, a hundred times under load, then count lost, duplicated and stale documents.

    python -m proofs chaos --kills 100 [--seed N] [--short] [--json] [--sabotage BUG]

    producers ──> broker ──> online process (consumer, store, search) <── searcher
        │            ╰ paused, restarted   ╰ killed    Triton ╯ killed
        ╰ ledger                 then, at rest: log, index, dead letters ──> check

With KAFKA_BOOTSTRAP the run uses that broker, killed by the command CHAOS_BROKER_KILL and started by CHAOS_BROKER_START; with
TWINLINE_STORE=qdrant and QDRANT_URL it uses that store. Exit code 0: every count of damage is 0 and every kill was made; else 1.
The promise for dead letters is at least once, so they are counted by their place in the log.
"""

import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from proofs.chaos import reading
from proofs.chaos.check import Verdict, check
from proofs.chaos.deck import LONG_DECK, LONG_PACE, SHORT_DECK, SHORT_PACE
from proofs.chaos.kills import Killer
from proofs.chaos.law import Name, UnusableError
from proofs.chaos.load import Ledger, make_producers, real_texts
from proofs.chaos.options import ChaosOptions
from proofs.chaos.progress import Progress
from proofs.chaos.report import accepted_poison, build_report, check_search_at_rest, crashes
from proofs.chaos.searcher import Searcher
from proofs.chaos.system import System
from twinline.contract.documents.records import Document
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import DocumentError

_REST_SECONDS = 300.0
_QUERIES = 40


def measure_chaos(options: ChaosOptions) -> dict[str, Any]:
    """Run in a home of its own, which is removed afterwards unless `keep` is set; return the report."""
    signal.signal(signal.SIGTERM, _end)
    home = Path(tempfile.mkdtemp(prefix="twinline-chaos-")).resolve()
    try:
        return run(options, home)
    finally:
        if options.keep:
            print(f"kept {home}", file=sys.stderr)
        else:
            shutil.rmtree(home, ignore_errors=True)


def run(options: ChaosOptions, home: Path) -> dict[str, Any]:
    """Start a system, kill its parts under load, let it come to rest, and check it."""
    began, texts = time.monotonic(), real_texts()
    system = System(home, options.sabotage)
    ledger = Ledger(system.folder / "ledger.jsonl")
    try:
        # 1. A release in service, with documents in it.
        system.start_dependencies()
        progress = Progress(system.settings.kafka_address, system.settings.topic, system.group)
        producers = list(make_producers(system.settings, options.seed, texts, ledger, options.rate, lambda: progress.total))
        for producer in producers:
            producer.write_first()
        system.build()
        system.start_online()
        # 2. Load, and a searcher.
        queries = [text.partition("\n")[0] for _, text in texts[:: max(1, len(texts) // _QUERIES)]]
        searcher = Searcher(
            system.settings.search_url, system.release, queries, lambda: ledger.gone(progress.committed), options.seed
        )
        progress.start()
        searcher.start()
        for producer in producers:
            producer.start()
        # 3. Death.
        deck, pace = (SHORT_DECK, SHORT_PACE) if options.short else (LONG_DECK, LONG_PACE)
        killer = Killer(system, searcher, progress, options.seed, pace)
        deadline = time.monotonic() + options.minutes * 60
        record = killer.run(options.kills, deck, shuffled=not options.short, deadline=deadline)
        # 4. Rest: no more writes, all processes run, all messages are committed.
        for producer in producers:
            producer.stop()
        lag = _wait_for_rest(progress)
        records = reading.read_topic(system.settings.kafka_address, system.settings.topic)
        found = set(reading.search_everything(system.settings.search_url, _sources(records), queries[0]))
        progress.stop()
        answers = searcher.stop()
        left_behind = {name: system.left_behind(name) for name in ("triton", "online")}
        exit_code = system.supervised["online"].stop(60)
        # 5. The check: of all messages, or, on a machine too slow for that, of the stopped consumer's committed ones.
        committed = progress.ask()
        checked = [one for one in records if one.offset < committed.get(one.partition, 0)]
        verdict = _check(system, checked)
    finally:
        codes = system.stop()
        ledger.close()
    verdict.damage.count_broker_losses(ledger.acknowledged, records)
    if not lag:
        check_search_at_rest(verdict, found, answers)
    return build_report(
        options,
        record,
        verdict,
        answers,
        {
            "lag": lag,
            "crashes": crashes(system, codes),
            "unclean_exit": int(exit_code != 0),
            "intended_poison_accepted": accepted_poison(checked, verdict),
        },
        {
            "messages": len(records),
            "messages_checked": len(checked),
            "sent": dict(sum((Counter(producer.sent) for producer in producers), Counter())),
            "sends_failed": ledger.failed,
            "processes_left_behind_by_kills": left_behind,
            "seconds": round(time.monotonic() - began),
        },
    )


def _wait_for_rest(progress: Progress) -> int:
    give_up = time.monotonic() + _REST_SECONDS
    while (lag := progress.lag()) and time.monotonic() < give_up:
        time.sleep(0.5)
    return lag


def _check(system: System, records: Sequence[Any]) -> Verdict:
    settings = system.settings
    preprocessor = Preprocessor.load(settings.releases / system.release)

    def cut(name: Name, said: Mapping[str, Any]) -> Sequence[Any]:
        try:
            return preprocessor.chunks(Document(*name, text=said["text"], title=said.get("title") or ""))
        except DocumentError as exc:
            raise UnusableError(str(exc)) from exc

    if settings.store == "edge":
        points = reading.read_edge(settings.store_folder / system.collection)
    else:
        api_key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
        points = reading.read_server(settings.qdrant_url or "", api_key, system.collection)
    letters = reading.letter_places(reading.read_topic(settings.kafka_address, settings.dead_letter_topic))
    return check(
        records,
        points,
        letters,
        cut,
        lambda texts: reading.embed(settings.triton_grpc_address, f"embed_{system.release}", texts),
    )


def _sources(records: Sequence[Any]) -> list[str]:
    named = (json.loads(record.key) for record in records if record.key and record.key.startswith(b'["') and b"," in record.key)
    return sorted({source for source, _ in named})


def _end(number: int, _frame: FrameType | None) -> None:
    # By an exception through every `finally`, so that no process is left.
    sys.exit(128 + number)
