"""Bad input is answered by one clear sentence: what was found, what is wanted, what to do."""

from collections.abc import Callable

import pytest


def assert_sentence(call: Callable, error: type[Exception], parts: str, longest: int = 250) -> None:
    """call() raises that error with one such sentence, which holds every part; "·" in a part is a space."""
    with pytest.raises(error) as caught:
        call()
    sentence = str(caught.value)
    for part in parts.split():
        assert part.replace("·", " ") in sentence
    assert " found, wanted " in sentence and "; " in sentence and sentence.endswith(".")
    assert "\n" not in sentence and len(sentence) < longest
