"""An eval of inspect-ai in batch mode, as its own documentation has it; run in the environment of the tools.

Prints one line of JSON: what its log says.
"""

import json
import os
from importlib.metadata import version

from inspect_ai import Task, eval  # noqa: A004 - its own name
from inspect_ai.dataset import Sample
from inspect_ai.model import BatchConfig, GenerateConfig, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

SAMPLES = 40

model = get_model(
    f"openai/{os.environ['MODEL']}",
    base_url=os.environ["BASE_URL"],
    api_key=os.environ["API_KEY"],
    responses_api=False,
    config=GenerateConfig(batch=BatchConfig(size=SAMPLES // 2, send_delay=1, tick=0.5), max_tokens=16),
)
task = Task(
    dataset=[Sample(id=n, input=f"line:s{n} Say ok.", target="ok") for n in range(SAMPLES)],
    solver=generate(),
    scorer=includes(),
)
log = eval(task, model=model, display="none", log_dir=os.environ["LOG_DIR"], max_connections=SAMPLES)[0]
usage = next(iter(log.stats.model_usage.values()), None)
print(
    json.dumps(
        {
            "version": version("inspect-ai"),
            "status": log.status,
            "samples": len(log.samples or []),
            "errors": [str(sample.error.message) for sample in log.samples or [] if sample.error],
            "output_tokens": usage.output_tokens if usage else 0,
        }
    )
)
