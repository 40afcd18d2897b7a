"""The engine edge: requests to completions, in a child process that speaks JSON lines.

Everything imported here is the standard library: the pytest process never imports torch, vllm or transformers. What
needs them lives in modules that only the child loads: `worker`, `vllm`, `transformers`, `merge`.
"""

from __future__ import annotations

from evalgate.engines.fake import FakeEngine
from evalgate.engines.identity import engine_identity
from evalgate.engines.process import EngineProcess
from evalgate.engines.settings import EngineSettings, length_bound

__all__ = ["EngineProcess", "EngineSettings", "FakeEngine", "engine_identity", "length_bound"]
