"""The steps of a release, each safe to repeat: what `python -m release` and `twinline release` call."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from clients.admin import AdminClient
from clients.settings import CHECKOUT, Settings
from clients.triton import TritonControl, TritonEmbedder
from contract.errors import TransientError
from contract.manifest import Manifest, collection_name, consumer_group
from contract.release import ReleaseFolder
from release import build, fetch, gate, publish, retire, switch, verify
from release.checks import Check, require_pass
from release.log_sample import read_log, refused_keys
from release.registry import Registered, Registry
from release.remote import ensure_remote
from release.revisions import Workspace
from triton_models.names import Device

Say = Callable[[str], None]


class Flow:
    """The steps, over one checkout and one set of settings.

    Args:
        say: takes a line for a person.
    """

    def __init__(self, settings: Settings, say: Say, checkout: Path = CHECKOUT) -> None:
        self._settings = settings
        self._say = say
        self._checkout = checkout
        self.registry = Registry(checkout)

    def gate(self, revision: str) -> list[Check]:
        """Refuse an experiment, version or the workspace (`workspace`) that is not good enough; raises RefusedError."""
        files = Workspace(self._checkout) if revision == "workspace" else self.registry.revision(revision)
        checks = gate.read_checks(files)
        self._report(checks)
        require_pass(checks, f"revision {revision}", gate.REMEDY)
        return checks

    def register(self, revision: str) -> Registered:
        """Register an experiment that passes the gate, and push its files to the DVC remote."""
        checks = self.gate(revision)
        ensure_remote(self._checkout, self._settings.home)
        entry = self.registry.register(revision, "\n".join(f"{check.name}: {check.detail}" for check in checks))
        self._say(f"encoder {entry.version}: release {self.registry.release_of(entry)}, commit {entry.revision[:12]}")
        return entry

    def fetch(self, what: str) -> Manifest:
        """Bring a version, stage, experiment or folder into the folder of releases."""
        manifest = fetch.fetch(what, self._settings.releases, self.registry)
        self._say(f"release {manifest.release} in {self._settings.releases / manifest.release}, every file as its manifest says")
        return manifest

    def publish(self, release: str, device: Device = "cpu") -> None:
        """Load a release in Triton and compare its golden texts."""
        folder = self._settings.releases / release
        manifest = fetch.open_release(self._settings.releases, release)
        with closing(TritonControl(self._settings.triton_grpc_address)) as control:
            if not control.ready():
                raise TransientError(
                    f"no Triton answers at {self._settings.triton_grpc_address}: start it with `twinline up`, or set "
                    "TWINLINE_TRITON_GRPC"
                )
            done = publish.publish(folder, manifest, self._settings.model_repository, control, device)
        self._say(f"Triton {'loaded' if done else 'has'} embed_{release}: {manifest.serving.format}")
        with TritonEmbedder(self._settings.triton_grpc_address, release, manifest.space) as embedder:
            checks = publish.golden_checks(folder, manifest, embedder)
        self._report(checks)
        require_pass(checks, f"release {release} in Triton", "The model is loaded and nobody uses it: publish again")

    def build(self, release: str, snapshot: str = "") -> None:
        """Build the release's collection, and let the online process serve it."""
        self._manifest(release)
        with closing(AdminClient(self._settings.admin_url)) as admin:
            done = build.build(release, snapshot, admin)
        self._say(f"collection {collection_name(release)} {'built and served' if done else 'was there, and is served'}")

    def verify(self, release: str, sample: int = 24, patience_seconds: float = 120.0) -> None:
        """Refuse a collection that is behind, lacks documents, holds other vectors or does not find what it holds."""
        from clients.kafka import committed_offsets, end_offsets

        manifest = self._manifest(release)
        name, settings = collection_name(release), self._settings
        ends = end_offsets(settings, settings.topic)
        committed = partial(committed_offsets, settings, consumer_group(release), settings.topic)
        checks = [verify.wait_until_caught_up(ends, committed, patience_seconds)]
        state = read_log(settings, ends, sample)
        opened = ReleaseFolder.load(settings.releases / release)
        with (
            closing(AdminClient(settings.admin_url)) as admin,
            TritonEmbedder(settings.triton_grpc_address, release, manifest.space) as embedder,
        ):
            candidate = verify.Candidate(name, manifest, opened.preprocessor, embedder)
            checks += publish.golden_checks(settings.releases / release, manifest, embedder)
            heads = verify.read_heads(admin, name)
            checks.append(verify.whole_check(state, heads, partial(refused_keys, settings)))
            documents = verify.still_current(state.documents, state, heads)
            checks.append(verify.golden_check(name, opened.golden, admin))
            if state.is_empty:
                # A platform without documents yet. Documents that were all set aside are another matter, and are refused below.
                checks.append(Check("sample", True, "the log holds no document: there is nothing to compare or to find"))
            else:
                checks += verify.equal_checks(candidate, admin, documents)
                checks += verify.found_checks(candidate, admin, documents)
        self._report(checks)
        require_pass(checks, f"collection {name}", "Nobody is answered from it; retire the release, then build it again")

    def switch(self, release: str) -> str:
        """Make a release the active one, whole; return the one before it, empty if there was none or it is this one."""
        manifest = self._manifest(release)
        with closing(AdminClient(self._settings.admin_url)) as admin:
            before = switch.activate(release, admin)
        self._say(f"release {release} {'was' if before is None else 'is now'} the active one")
        with closing(TritonControl(self._settings.triton_grpc_address)) as control:
            switch.follow(release, manifest.space, self._settings.model_repository, control)
        self._assign(release)
        return (before or "").removeprefix(collection_name(""))

    def retire(self, release: str) -> bool:
        """Take a release that is not active out of service; return whether there was anything left of it."""
        with (
            closing(AdminClient(self._settings.admin_url)) as admin,
            closing(TritonControl(self._settings.triton_grpc_address)) as control,
        ):
            done = retire.retire(release, self._settings.model_repository, admin, control)
        self._say(f"release {release} {'is retired' if done else 'was not in service'}; the registry keeps its version")
        return done

    def deploy(self, what: str, device: Device = "cpu") -> Manifest:
        """Fetch, publish, build, verify and switch, in this order."""
        manifest = self.fetch(what)
        self.publish(manifest.release, device)
        self.build(manifest.release)
        self.verify(manifest.release)
        self.switch(manifest.release)
        return manifest

    def _assign(self, release: str) -> None:
        entry = next((entry for entry in self.registry.versions() if self.registry.release_of(entry) == release), None)
        if entry is None:
            self._say(f"release {release} is not registered, so no version takes the stage prod")
            return
        self.registry.assign(entry.version)
        self._say(f"encoder {entry.version} is in stage prod")

    def _manifest(self, release: str) -> Manifest:
        return fetch.read_manifest(self._settings.releases, release)

    def _report(self, checks: list[Check]) -> None:
        for check in checks:
            self._say(f"  {'ok     ' if check.passed else 'REFUSED'} {check.name}: {check.detail}")
