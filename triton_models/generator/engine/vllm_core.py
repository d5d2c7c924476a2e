"""What vLLM is asked for: its options, a request's parameters, and the constraint as a logits processor."""

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from triton_models.generator.engine.requests import Request, Sink
from twinline.contract.errors import SettingsError

# The name of the entry in a request's `extra_args` that leads from vLLM's sampler back to our request.
_KEY: Final = "twinline"
_ENVIRONMENT: Final = {
    # The engine's core in this process, so that a constraint can be called from the sampler.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # The runner whose logits processors see a request's output ids.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_NO_USAGE_STATS": "1",
}


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """How vLLM serves a folder.

    Args:
        dtype: `float32`, `bfloat16` or `float16`.
        most_running: most requests in vLLM at once.
        most_waiting: most requests of one priority that wait here; the next one is refused.
        step_tokens: most ids of one step.
        memory_share: of the GPU's memory.
        shares_prefixes: whether the blocks of a prompt serve later prompts that begin alike.
    """

    dtype: str = "bfloat16"
    most_running: int = 64
    most_waiting: int = 256
    step_tokens: int = 2048
    memory_share: float = 0.8
    shares_prefixes: bool = True


@dataclass(slots=True, eq=False)
class VllmJob:
    """One request on its way; the engine's thread alone changes it, but for `is_cancelled`."""

    request: Request
    sink: Sink
    number: int
    submitted: float
    tokens: list[int] = field(default_factory=list)
    # of the step in hand: the sum of all logits' exponentials and of the allowed ones', as logarithms
    whole: float = 0.0
    among: float = 0.0
    first: tuple[float, ...] = ()
    advanced: int = 0
    cached_tokens: int = 0
    is_cancelled: bool = False
    fault: str = ""

    def logits(self, output_ids: Sequence[int], logits: Any) -> Any:
        """Return the logits under the constraint; called by vLLM's sampler with the ids so far."""
        wide = logits.float()
        self.whole = self.among = float(wide.logsumexp(dim=-1))
        if not output_ids:
            self.first = tuple(float(wide[one]) - self.whole for one in self.request.decoding.first_ids)
        constraint = self.request.constraint
        if constraint is None or self.fault:
            return logits
        try:
            for token in output_ids[self.advanced :]:
                constraint.advance(int(token))
                self.advanced += 1
            allowed = constraint.allowed()
            if allowed is None:
                return logits
            if allowed.dtype != np.bool_ or allowed.shape != (len(logits),) or not allowed.any():
                raise ValueError(f"its mask is {allowed.dtype} of shape {allowed.shape} with {int(allowed.sum())} tokens")
            # A tensor on the logits' device, by their own methods: only training and export import torch.
            barred = wide.new_tensor((~allowed).astype(np.float32)) > 0
            masked = logits.masked_fill(barred, -math.inf)
            self.among = float(masked.float().logsumexp(dim=-1))
        # A constraint is code of another room: whatever it raises is this request's end, and the step goes on.
        except Exception as exc:  # noqa: BLE001
            self.fault = f"the constraint failed ({type(exc).__name__}: {exc})"
            return logits
        return masked


# vLLM makes the processor itself and hands it parameters that must be plain data.
JOBS: Final[dict[int, VllmJob]] = {}
NUMBERS: Final = itertools.count()


def name_of(job: VllmJob) -> str:
    """Return the name of a request in vLLM."""
    return f"{_KEY}-{job.number}"


def prompt_of(job: VllmJob) -> Any:
    """Return the prompt: its ids and nothing else."""
    from vllm.inputs import TokensPrompt

    return TokensPrompt(prompt_token_ids=list(job.request.prompt_ids))


def parameters_of(job: VllmJob) -> Any:
    """Return the sampling parameters of a request, none of them left to a default of vLLM or of the folder."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    decoding = job.request.decoding
    return SamplingParams(
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        top_k=decoding.top_k,
        seed=decoding.seed if decoding.temperature else None,
        max_tokens=decoding.max_tokens,
        stop_token_ids=sorted(decoding.stop_ids),
        # Stop ids are the contract's, not those of a generation_config.json.
        ignore_eos=True,
        detokenize=False,
        logprobs=0,
        output_kind=RequestOutputKind.DELTA,
        extra_args={_KEY: job.number},
    )


def make_engine(folder: Path, most_positions: int, settings: VllmSettings) -> Any:
    """Return vLLM's synchronous engine over a folder, its core in this process.

    Raises:
        SettingsError: vLLM is not installed here.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine
    except ImportError as exc:
        raise SettingsError(
            f"vLLM is not installed here ({exc}): install it in the model server's environment, or serve OpenVINO on the CPU"
        ) from exc
    return LLMEngine.from_engine_args(
        EngineArgs(
            model=str(folder),
            # Ids in, ids out: no tokenizer is read, no template applied, and no sampling default taken from the folder.
            skip_tokenizer_init=True,
            generation_config="vllm",
            dtype=settings.dtype,
            max_model_len=most_positions,
            max_num_seqs=settings.most_running,
            max_num_batched_tokens=settings.step_tokens,
            gpu_memory_utilization=settings.memory_share,
            enable_prefix_caching=settings.shares_prefixes,
            scheduling_policy="priority",
            # A constraint needs the last token before it masks the next.
            async_scheduling=False,
            logprobs_mode="raw_logprobs",
            logits_processors=[_processor()],
        )
    )


def _processor() -> Any:
    """Return the class that vLLM makes its logits processor of."""
    from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

    class ConstraintProcessor(AdapterLogitsProcessor):  # type: ignore[misc]
        """Leads each row of a batch to its request's constraint."""

        def is_argmax_invariant(self) -> bool:
            """Return False: a mask may bar the likeliest token."""
            return False

        def new_req_logits_processor(self, params: Any) -> Any:
            """Return what masks the rows of one request."""
            job = JOBS.get((params.extra_args or {}).get(_KEY, -1))
            return None if job is None else job.logits

    return ConstraintProcessor
