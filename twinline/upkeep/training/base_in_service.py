"""A corpus that no encoder of its own was accepted for is still served: by the base model, where no release is active."""

from contextlib import closing
from pathlib import Path

import yaml

from twinline.clients.online import AdminClient
from twinline.clients.settings import Settings
from twinline.contract.artefacts import PARAMS
from twinline.release.bootstrap import Base, bootstrap
from twinline.release.flow import Flow


def serve_base_if_none(flow: Flow, settings: Settings, base: Base) -> str:
    """Put the base model into service, as `twinline release bootstrap` does, and return the release's id.

    Empty, and nothing is done, where a release is active: a trained one is never replaced by its base.

    Raises:
        ContractError: the base model cannot be exported.
        TransientError: a part of the stack is away.
    """
    with closing(AdminClient(settings.admin_url)) as admin:
        if admin.status().active:
            return ""
    return bootstrap(flow, settings, base)


def base_of(project: Path) -> Base:
    """Return the base model that params.yaml trains on, cut as params.yaml says."""
    encoder = yaml.safe_load((project / PARAMS).read_text("utf-8"))["encoder"]
    return Base(model=encoder["base_model"], chunker=encoder["contract"]["chunker"])
