"""Names of providers as other programs have them, in the names that prices and usage go by here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LITELLM: Mapping[str, str] = MappingProxyType(
    {
        "anthropic": "anthropic",
        "azure": "azure",
        "azure_ai": "azure",
        "azure_text": "azure",
        "bedrock": "aws",
        "bedrock_converse": "aws",
        "bedrock_mantle": "aws",
        "codestral": "mistral",
        "cohere": "cohere",
        "cohere_chat": "cohere",
        "deepseek": "deepseek",
        "fireworks_ai": "fireworks",
        "fireworks_ai-embedding-models": "fireworks",
        "gemini": "google",
        "groq": "groq",
        "mistral": "mistral",
        "openai": "openai",
        "openrouter": "openrouter",
        "palm": "google",
        "perplexity": "perplexity",
        "text-completion-codestral": "mistral",
        "text-completion-openai": "openai",
        "together_ai": "together",
        "vertex_ai": "google",
        "xai": "xai",
    }
)
"""Our provider name by LiteLLM's; ``vertex_ai-…`` is google, any other keeps its own name."""

_MAKERS = (
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4-", "openai"),
    ("text-embedding-3", "openai"),
    ("text-embedding-ada", "openai"),
    ("dall-e-", "openai"),
    ("whisper-1", "openai"),
    ("tts-1", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "google"),
    ("command-", "cohere"),
    ("mistral-", "mistral"),
    ("ministral-", "mistral"),
    ("codestral-", "mistral"),
    ("grok-", "xai"),
    ("deepseek-", "deepseek"),
    ("sonar", "perplexity"),
)
"""How models are called whose maker serves them, and who that is."""


def from_litellm(name: str) -> str:
    """Return our name of a provider that LiteLLM calls ``name``."""
    if name.startswith("vertex_ai-"):
        return "google"
    return LITELLM.get(name, name.lower())


def maker_of(model: str) -> str | None:
    """Return the provider that makes a model and serves it itself; None if its name says none.

    That is who ran it unless somebody else did who offers it under the same name, so whoever uses
    this has to say that it was inferred.
    """
    return next((maker for start, maker in _MAKERS if model.lower().startswith(start)), None)
