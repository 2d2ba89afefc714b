"""What composing much costs, which a user should know before it starts."""

from __future__ import annotations

from midinet.generation.request import TOKENS_PER_HOUR, Limit
from midinet.model.parameters import Parameters

_MANY_TOKENS = 1_000_000
_MUCH_MEMORY_BYTES = 1 << 30


def describe_cost(parameters: Parameters, num: int, prompt_tokens: int, limit: Limit) -> str | None:
    """What composing takes, in a line to show before it starts; None if it is not much.

    Args:
        parameters: of the model.
        num: pieces to compose at once.
        prompt_tokens: length of what each goes on from.
        limit: how much to compose per piece.

    Example:
        >>> describe_cost(Parameters(), 100, 0, Limit(2500, None))
        '100 pieces take at least 5.0 GB of memory'
    """
    tokens = limit.expected_tokens
    cached = min(parameters.sequence_length, prompt_tokens + tokens)
    # A key and a value of float32 per token, block and dimension.
    memory_bytes = 2 * 4 * num * cached * parameters.num_blocks * parameters.embedding_size
    said = []
    if num > 1 and memory_bytes >= _MUCH_MEMORY_BYTES:
        said.append(f"{num:,} pieces take at least {memory_bytes / 1e9:.1f} GB of memory")
    if num * tokens >= _MANY_TOKENS:
        hours = num * tokens / TOKENS_PER_HOUR
        said.append(
            f"{num * tokens:,} tokens are about {hours:,.0f} hours of music: the progress bar "
            "will show how long they take, and Ctrl-C keeps what there is by then"
        )
    return "; ".join(said) or None
