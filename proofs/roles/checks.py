"""What each role is asked to do with its own packages alone, against a running stack."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from proofs.roles.environments import Environment
from twinline.clients.params import set_params
from twinline.contract.errors import ContractError

QUERY: Final = "parse a JSON document"
# Of the project, enough for every stage to do its work in seconds.
SMALL: Final[dict[str, Any]] = {
    "source": "pydocs:json,html",
    "encoder.train.max_steps": 2,
    "encoder.train.batch_size": 8,
    "encoder.train.mini_batch_size": 8,
    "encoder.evaluate.bootstrap_samples": 100,
}
# Not in any role but their own.
HEAVY: Final = ("airflow", "torch")

_CLIENTS: Final = """
import asyncio, sys
from twinline import AsyncSearchClient, SearchClient

async def ask(url, query):
    async with AsyncSearchClient(url) as search:
        return await search.search(query)

with SearchClient(sys.argv[1]) as search:
    plain = search.search(sys.argv[2])
other = asyncio.run(ask(*sys.argv[1:]))
assert plain.hits and [hit.point for hit in plain.hits] == [hit.point for hit in other.hits]
loaded = {"airflow", "fastapi", "numpy", "qdrant_client", "tokenizers", "torch"} & set(sys.modules)
assert not loaded, f"the client loads {loaded}"
print(plain.release)
"""
_DAGS: Final = """
import json, sys
from airflow.dag_processing.dagbag import BundleDagBag

bag = BundleDagBag(sys.argv[1], bundle_path=sys.argv[1])
print(json.dumps({"errors": bag.import_errors, "dags": sorted(bag.dags)}))
"""


def make_small(project: Path) -> None:
    """Write parameters of a small run into a project."""
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    set_params(params, SMALL)
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def require_absent(environment: Environment, modules: Sequence[str]) -> None:
    """Raise ContractError for packages that a role does not need and has all the same."""
    if found := environment.installed(*modules):
        raise ContractError(f"{environment.folder.name} has {', '.join(found)}, which are no packages of its role")


def check_client(environment: Environment, search_url: str) -> str:
    """Ask by the command and by both clients; return what was seen."""
    require_absent(environment, (*HEAVY, "fastapi", "qdrant_client", "pyarrow", "dvc"))
    answer = json.loads(environment.run("twinline", "search", QUERY, "--json"))
    release = environment.run("python", "-c", _CLIENTS, search_url, QUERY).strip()
    if not answer["hits"] or answer["release"] != release:
        raise ContractError(f"the command has {len(answer['hits'])} hits of {answer['release']}, the clients of {release}")
    return f"{len(answer['hits'])} hits of {release}, by the command and by both clients"


def check_serve(environment: Environment, documents: int) -> str:
    """See that consumer and search run, and that the index has what was published; return what was seen."""
    require_absent(environment, (*HEAVY, "transformers", "daft", "dvc", "gto"))
    # Airflow is another role's and is left out; without it the stack is not whole, which is what exit code 1 says.
    program = (
        "import json; from twinline.clients.settings import load_settings; from twinline.stack.status import read_status;"
        "from dataclasses import asdict; print(json.dumps(asdict(read_status(load_settings()))))"
    )
    status = json.loads(environment.run("python", "-c", program))
    states = {part["name"]: part["state"] for part in status["parts"]}
    (collection,) = status["served"]["collections"]
    is_whole = collection["consumer_running"] and collection["documents"] == documents and not collection["faults"]
    if [states[name] for name in ("broker", "triton", "online")] != ["ready"] * 3 or not is_whole:
        raise ContractError(f"parts are {states}, the collection is {collection}, published were {documents} documents")
    return f"broker, Triton, consumer and search ready; {documents} documents indexed"


def check_train(environment: Environment) -> str:
    """Run the offline line's stages, one after the other; return what was seen."""
    # DVC brings GTO.
    require_absent(environment, ("airflow", "fastapi"))
    for stage in (
        ("etl", "ingest"),
        ("etl", "prepare"),
        ("etl", "pairs"),
        ("train", "fit"),
        ("export", "words"),
        ("train", "evaluate"),
    ):
        environment.run("python", "-m", *stage, limit_seconds=1_200)
    for name in ("export", "parity", "quality", "profile", "package"):
        environment.run("python", "-m", "export", name, limit_seconds=1_200)
    manifest = json.loads((environment.project / "models" / "release" / "manifest.json").read_text())
    return f"from documents to release {manifest['release']}"


def check_release(environment: Environment) -> str:
    """List, repair, and compare the index with the log; return what was seen. Skew needs the training framework as well."""
    require_absent(environment, (*HEAVY, "fastapi", "daft"))
    active = json.loads(environment.run("twinline", "release", "repair").splitlines()[-1])["active"]
    listed = json.loads(environment.run("twinline", "release", "list", "--json").splitlines()[-1])["releases"]
    if not listed:
        raise ContractError("no release is listed, and one is active")
    # Ends with another code where the two differ.
    environment.run("twinline", "reconcile")
    return f"{active} is active and listed, its index agrees with the log"


def check_schedule(environment: Environment, scratch: Path) -> str:
    """Let Airflow parse the project's DAGs; return what was seen."""
    require_absent(environment, ("torch", "fastapi_offline", "daft"))
    dags = str(environment.project / "dags")
    variables = {"AIRFLOW_HOME": str(scratch), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__CORE__DAGS_FOLDER": dags}
    own = Environment(
        environment.folder,
        environment.project,
        {**environment.variables, **variables},
        environment.size_mib,
        environment.install_seconds,
    )
    found = json.loads(own.run("python", "-W", "ignore", "-c", _DAGS, dags).splitlines()[-1])
    wanted = sorted(path.stem for path in Path(dags).glob("*.py") if "DAG(" in path.read_text())
    if found["errors"] or found["dags"] != wanted:
        raise ContractError(f"Airflow finds {found['dags']} of {wanted}, with errors {found['errors']}")
    return f"Airflow parses {len(wanted)} DAGs"
