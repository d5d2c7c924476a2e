"""The steps of a release, each safe to repeat; `python -m twinline.release` and `twinline release` call them."""

from contextlib import closing
from functools import partial

from triton_models.names import Device
from twinline.clients.online import AdminClient
from twinline.clients.settings import Settings
from twinline.clients.triton.embedder import TritonEmbedder
from twinline.clients.triton.fleet import TritonFleet
from twinline.contract.errors import TwinlineError
from twinline.contract.principal import Principal
from twinline.contract.release.checks import MARGIN, Check, UndecidedError, require_pass
from twinline.contract.release.folder import ReleaseFolder
from twinline.contract.release.manifest import Manifest, collection_name, consumer_group
from twinline.contract.release.verdict import ENOUGH_QUESTIONS, outcome
from twinline.registry import fetch, gate
from twinline.registry.remote import ensure_remote
from twinline.registry.revisions import Workspace
from twinline.registry.versions import Registered
from twinline.release import build, publish
from twinline.release.kinds import Kind, Say
from twinline.release.operations import Operations
from twinline.release.show.tables import check_lines
from twinline.release.verify import index as verify
from twinline.release.verify import live_quality
from twinline.release.verify.live_sample import live_sample_checks
from twinline.release.verify.log_sample import LogState, read_log, refused_keys
from twinline.release.verify.record import Verification, forget_verification


class Flow:
    """The steps for one kind of model, over one project and one set of settings.

    Building and verifying handle the encoder's collection; all other steps fit any kind.

    Args:
        principal: the caller, whose name signs the records.
        say: shows a line to a person.

    Raises:
        NotAllowedError: the caller may not release.
    """

    def __init__(self, kind: Kind, settings: Settings, principal: Principal, say: Say) -> None:
        self._kind = kind
        self._settings = settings
        self._by = principal.name
        self._say = say
        self._project = settings.find_project()
        self._state = kind.state_folder(settings)
        self.registry = kind.registry(self._project)
        self.operations = Operations(kind, settings, self.registry, principal, say)

    def gate(self, revision: str, allowed_by: str = "") -> list[Check]:
        """Refuse an experiment, version or the workspace (`workspace`) that is not good enough.

        Args:
            allowed_by: the person who accepts it although it was measured on too few questions; empty: nobody.

        Raises:
            UndecidedError: too few questions, and nobody has accepted it.
            RefusedError: it is not good enough; no name helps.
        """
        files = Workspace(self._project) if revision == "workspace" else self.registry.revision(revision)
        checks = self._kind.read_checks(files)
        self._report(checks)
        if outcome(checks) != "undecided":
            require_pass(checks, f"revision {revision}", gate.REMEDY)
        elif allowed_by:
            self._say(f"UNDECIDED, and accepted by {allowed_by}")
        else:
            why = next(check.detail for check in checks if check.name == ENOUGH_QUESTIONS)
            raise UndecidedError(f"revision {revision} is undecided: {why}. {gate.REMEDY}", checks)
        return checks

    def register(self, revision: str, allowed_by: str = "") -> Registered:
        """Register an experiment that passes the gate, and push its files to the DVC remote.

        Args:
            allowed_by: as for `gate`; the version's tag records the name.
        """
        checks = self.gate(revision, allowed_by)
        ensure_remote(self._project, self._settings.home)
        notes = [f"{check.name}: {check.detail}" for check in checks]
        if outcome(checks) == "undecided":
            notes.append(f"undecided, and accepted by {allowed_by} ({self._by})")
        entry = self.registry.register(revision, "\n".join(notes))
        release = self.registry.release_of(entry)
        self._say(f"{self.registry.artifact.name} {entry.version}: release {release}, commit {entry.revision[:12]}")
        return entry

    def fetch(self, what: str) -> Manifest:
        """Bring a version, stage, experiment or folder into the folder of releases."""
        manifest = fetch.fetch(what, self._settings.releases, self.registry)
        self._say(f"release {manifest.release} in {self._settings.releases / manifest.release}, every file as its manifest says")
        return manifest

    def publish(self, release: str, device: Device = "cpu") -> None:
        """Load a release on every Triton server and compare its golden texts; on all of them or on none."""
        try:
            self.operations.repair()
        except TwinlineError as error:
            # Publishing changes nothing active, and may be the way out of a release that cannot be repaired.
            self._say(f"NOT repaired before publishing: {error}")
        folder = self._settings.releases / release
        manifest = fetch.open_release(self._settings.releases, release)
        model = self._kind.serve(release)

        def confirm(address: str) -> list[Check]:
            checks = self._kind.prove(address, folder, manifest)
            self._say(f"Triton at {address} has {model}: {manifest.serving.format}")
            self._report(checks)
            return checks

        with closing(TritonFleet.connect(self._settings)) as fleet:
            fleet.require_all()
            loaded = publish.publish(folder, manifest, model, fleet.replicas, device, confirm)
        self._say(f"loaded on {len(loaded)} of {len(fleet.replicas)} servers, confirmed by all")

    def build(self, release: str, snapshot: str = "", *, ask: bool = False) -> None:
        """Build the release's collection, and let the online process serve it.

        Args:
            ask: wait for a person's yes after the estimate of time and size.
        """
        self._manifest(release)
        self._check_log(collection_name(release))
        with closing(AdminClient(self._settings.admin_url)) as admin:
            if admin.status().collection(collection_name(release)) is None:
                # The record of an earlier collection of this name does not hold for the next one.
                forget_verification(self._state, release)
            done = build.build(release, snapshot, admin, self._project, ask=ask)
        self._say(f"collection {collection_name(release)} {'built and served' if done else 'was there, and is served'}")

    def verify(self, release: str, sample: int = 24, patience_seconds: float = 120.0, margin: float = MARGIN) -> Verification:
        """Refuse a collection that is behind, lacks documents, holds other vectors, or answers worse than the active one.

        The record stays in the release's state folder, also after a refusal.
        """
        from twinline.clients.kafka.connect import end_offsets
        from twinline.clients.kafka.standing import passed_offsets

        manifest = self._manifest(release)
        name, settings = collection_name(release), self._settings
        forget_verification(self._state, release)
        self._check_log(name)
        ends = end_offsets(settings, settings.topic)
        committed = partial(passed_offsets, settings, consumer_group(release), settings.topic)
        checks = [verify.wait_until_caught_up(ends, committed, patience_seconds)]
        state = read_log(settings, ends, sample)
        opened = ReleaseFolder.load(settings.releases / release)
        with (
            closing(AdminClient(settings.admin_url)) as admin,
            TritonEmbedder(settings.triton_grpc_address, release, manifest.space) as embedder,
        ):
            active = (admin.status().active or "").removeprefix(collection_name(""))
            candidate = verify.Candidate(name, manifest, opened.preprocessor, embedder)
            checks += publish.golden_checks(settings.releases / release, manifest, embedder)
            heads = verify.read_heads(admin, name)
            checks.append(verify.whole_check(state, heads, partial(refused_keys, settings)))
            checks.append(verify.golden_check(name, opened.golden, admin))
            if state.is_empty:
                # A platform without documents yet. The case that all documents were set aside is refused below.
                checks.append(Check("sample", True, "the log holds no document: there is nothing to compare or to find"))
            else:
                checks += live_sample_checks(candidate, admin, state, heads)
                checks += self._quality(manifest, active, admin, state, margin)
        self._report(checks)
        found = Verification.of(release, self._by, active, checks)
        found.save(self._state)
        require_pass(checks, f"collection {name}", "Nobody is answered from it; retire the release, then build it again")
        return found

    def _check_log(self, name: str) -> None:
        """Refuse a collection of another log at once: its consumer would never catch up here."""
        from twinline.clients.log_identity import check
        from twinline.clients.store.open import make_store

        store = make_store(self._settings)
        if name in store.names():
            check(self._settings, store, name)

    def _quality(self, manifest: Manifest, active: str, admin: AdminClient, state: LogState, margin: float) -> list[Check]:
        entry = self.registry.version_of(manifest.release)
        if entry is None:
            return [live_quality.not_measured("the release is not registered, so no commit has held-out queries for it")]
        other = collection_name(active) if active and active != manifest.release else ""
        sides = live_quality.Sides(collection_name(manifest.release), other, manifest.metrics)
        return live_quality.quality_checks(admin, sides, self.registry.revision(entry.version), state, margin)

    def promote(self, release: str, margin: float = MARGIN) -> str:
        """Make a verified release the active one; return the one before it, empty if it was active already.

        It is verified now where there is no record, or only one against another active release.
        """
        self._manifest(release)
        seen = self.operations.verified(release)
        if seen is None:
            self._say(f"release {release} was not verified beside the release that is active now: verifying")
            seen = self.verify(release, margin=margin)
        else:
            self._say(f"release {release} was verified at {seen.time} by {seen.by}: {len(seen.checks)} checks passed")
        return self.operations.promote(release)

    def deploy(self, what: str, device: Device = "cpu", *, ask: bool = False) -> Manifest:
        """Fetch, publish, build, verify and promote, in this order; `ask` as for `build`."""
        manifest = self.fetch(what)
        self.publish(manifest.release, device)
        self.build(manifest.release, ask=ask)
        self.verify(manifest.release)
        self.promote(manifest.release)
        return manifest

    def _manifest(self, release: str) -> Manifest:
        return fetch.read_manifest(self._settings.releases, release)

    def _report(self, checks: list[Check]) -> None:
        for line in check_lines(check.to_json() for check in checks):
            self._say(line)
