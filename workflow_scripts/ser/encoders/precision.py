"""In which numbers an encoder computes: what a processor or a GPU does fast, and what is asked for."""

import logging
import time
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

FAST = {"avx512_bf16", "amx_bf16"}  # instructions that multiply bfloat16 numbers faster than float32
CPU_INFO = Path("/proc/cpuinfo")


@cache
def has_fast_bfloat16() -> bool:
    """Whether this machine's processor has instructions for products in bfloat16; torch is not imported to say so."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return bool(FAST & set(flags.split()))


def resolve_precision(precision: str, device: str) -> str:
    """What `auto`, `float32` or `bfloat16` comes to on a device, `cpu` or `cuda`; a GPU's `auto` is the card's own."""
    if device != "cpu" or precision == "float32":
        return precision
    if precision == "bfloat16" and not has_fast_bfloat16():
        log.warning(
            "precision: bfloat16, but this processor has no instructions for it (avx512_bf16 or amx_bf16), so it would "
            "be slower: computing in float32"
        )
        return "float32"
    return "float32" if precision == "auto" else precision


def log_saving(width: int) -> None:
    """Where `auto` leaves a processor's bfloat16 unused, say what it would save, as measured on a layer's product."""
    if not has_fast_bfloat16():
        return
    import torch

    from ser.encoders.products import Linear

    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        like = torch.empty(0, dtype=dtype)
        x, product = torch.randn(500, width).to(like), Linear(torch.randn(4 * width, width), None, like)
        product(x)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            product(x)
            times.append(time.perf_counter() - start)
        seconds[dtype] = min(times)
    share = seconds[torch.bfloat16] / seconds[torch.float32]
    log.info(
        "precision auto: float32. This processor makes a layer's product in bfloat16 in %.0f %% of the time; "
        "precision: bfloat16 takes that for features rounded to about 3 digits",
        100 * share,
    )
