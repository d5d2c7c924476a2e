"""The table of kills: each participant, at each step of a release, at a point between two of its effects."""

from dataclasses import dataclass
from typing import Final, Literal

from proofs.kills.kill_at import Victim

Step = Literal["fetch", "publish", "build", "build from a snapshot", "verify", "promote", "roll back", "retire"]
State = Literal["nothing", "fetched", "published", "built", "active"]

# The state of release B before each step; A is active unless B is.
NEEDS: Final[dict[Step, State]] = {
    "fetch": "nothing",
    "publish": "fetched",
    "build": "published",
    "build from a snapshot": "published",
    "verify": "built",
    "promote": "built",
    "roll back": "active",
    "retire": "built",
}

_SWITCH: Final = "twinline.release.switch"
_PUBLISH: Final = "twinline.release.publish"
_TRITON: Final = "twinline.clients.triton.control"
_COLLECTION: Final = "twinline.clients.store.edge_collection"
_ONLINE: Final = "twinline.clients.online"


@dataclass(frozen=True)
class Case:
    """One kill. For `point` and the fields after it see `proofs.kills.kill_at.Plan`."""

    name: str
    step: Step
    victim: Victim
    point: str
    when: Literal["before", "after"] = "before"
    call: int = 1
    delay_seconds: float = 0.0
    in_builder: bool = False
    short: bool = False

    @property
    def must_serve_throughout(self) -> bool:
        """Return whether no search may fail: neither the online process nor its dependencies were killed."""
        return self.victim in ("self", "broker paused")


_RUN: Final = "twinline.release.build:subprocess.run"

CASES: Final = (
    Case("fetch: copied, not renamed", "fetch", "self", "twinline.contract.release.manifest:Manifest.verify_files"),
    Case("publish: nothing written", "publish", "self", f"{_PUBLISH}:write_models"),
    Case("publish: written beside", "publish", "self", "triton_models.repository:check_served"),
    Case("publish: one model of three renamed in", "publish", "self", "triton_models.repository:rename_in", "after", short=True),
    Case("publish: written, not loaded", "publish", "self", f"{_PUBLISH}:write_models", "after"),
    Case("publish: while Triton loads", "publish", "self", f"{_TRITON}:TritonControl.load", delay_seconds=0.5),
    Case("publish: loaded, not confirmed", "publish", "self", f"{_PUBLISH}:read_golden"),
    Case(
        "publish: Triton killed as it loads",
        "publish",
        "triton",
        f"{_TRITON}:TritonControl.load",
        delay_seconds=0.5,
    ),
    Case("publish: online process killed", "publish", "online", f"{_PUBLISH}:write_models"),
    Case("build: command killed, builder goes on", "build", "self", _RUN, delay_seconds=6.0),
    Case("build: golden texts stored", "build", "self", "streaming.building.build:_store_golden", "after", in_builder=True),
    Case(
        "build: in the snapshot", "build from a snapshot", "self", "streaming.indexer:Indexer.handle", "after", 1, in_builder=True
    ),
    Case("build: in the log", "build", "self", "streaming.indexer:Indexer.handle", "after", 1, in_builder=True, short=True),
    Case(
        "build: heads written, chunks not",
        "build",
        "self",
        f"{_COLLECTION}:EdgeCollection.put_points",
        in_builder=True,
    ),
    Case("build: handled, not committed", "build", "self", "streaming.log_reader:LogReader.commit", "before", 2, in_builder=True),
    Case(
        "build: read, not indexed",
        "build",
        "self",
        f"{_COLLECTION}:EdgeCollection.optimize",
        in_builder=True,
    ),
    Case("build: indexed, not visible", "build", "self", "twinline.clients.store.edge:EdgeStore.finish", in_builder=True),
    Case("build: visible, not served", "build", "self", f"{_ONLINE}:AdminClient.serve"),
    Case("build: online process killed", "build", "online", _RUN, delay_seconds=4.0),
    Case("build: Triton killed", "build", "triton", _RUN, delay_seconds=6.0),
    Case("build: broker held still", "build", "broker paused", _RUN, delay_seconds=4.0),
    Case("verify: half of the checks", "verify", "self", "twinline.release.verify.index:look_at"),
    Case("verify: online process killed", "verify", "online", "twinline.release.verify.index:golden_check"),
    Case("verify: Triton killed", "verify", "triton", "twinline.release.verify.index:golden_check"),
    Case("promote: alias not yet", "promote", "self", f"{_SWITCH}:activate"),
    Case("promote: alias, not `embed`", "promote", "self", f"{_SWITCH}:follow", short=True),
    Case("promote: `embed` written, not loaded", "promote", "self", f"{_SWITCH}:point_stable_model", "after"),
    Case("promote: `embed`, not the stage", "promote", "self", "twinline.registry.versions:Registry.assign"),
    Case("promote: online process killed, alias not yet", "promote", "online", f"{_SWITCH}:activate"),
    Case(
        "promote: online process killed, alias switched",
        "promote",
        "online",
        f"{_SWITCH}:activate",
        "after",
        short=True,
    ),
    Case("promote: Triton killed, alias switched", "promote", "triton", f"{_SWITCH}:follow"),
    Case("promote: broker held still", "promote", "broker paused", f"{_SWITCH}:activate"),
    Case("roll back: alias, not `embed`", "roll back", "self", f"{_SWITCH}:follow"),
    Case("roll back: online process killed", "roll back", "online", f"{_SWITCH}:activate"),
    Case("retire: collection gone, models loaded", "retire", "self", f"{_ONLINE}:AdminClient.retire", "after"),
    Case("retire: models unloaded, files there", "retire", "self", f"{_TRITON}:TritonControl.unload", "after"),
    Case("retire: files renamed away, not deleted", "retire", "self", "triton_models.repository:shutil.rmtree"),
    Case(
        "retire: online process killed as it drops",
        "retire",
        "online",
        f"{_ONLINE}:AdminClient.retire",
        delay_seconds=0.02,
    ),
)
