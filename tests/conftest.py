"""What every test gets: no network, one torch thread, and a small random Qwen2.5-VL where one is asked for."""

from __future__ import annotations

import os
import socket

import pytest

# Before any library is imported, here or in a test's subprocess.
os.environ |= {
    "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false", "TRL_EXPERIMENTAL_SILENCE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}  # fmt: skip


def pytest_collection_modifyitems(items):
    needs_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if needs_gpu:
        import torch

        if not torch.cuda.is_available():
            for item in needs_gpu:
                item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any connection that leaves this machine fails the test."""
    connect = socket.socket.connect

    def local_only(self, address):
        assert self.family == socket.AF_UNIX or address[0] == "127.0.0.1", f"a test connects to {address}: tests use no network"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
    monkeypatch.setattr(socket.socket, "connect_ex", local_only)


@pytest.fixture(scope="session")
def sandbox():
    from codevision_lite.sandbox import Sandbox

    with Sandbox(mode="inline") as opened:
        yield opened


@pytest.fixture(scope="session")
def processor():
    import torch

    from codevision_lite.train.pretrain import build_processor, train_tokenizer

    torch.set_num_threads(1)
    return build_processor(train_tokenizer(0))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory, processor):
    """A folder with a random model of the tiny base's shape, as `load_base` and recipes want it."""
    from tiny_model import save_random_model

    return save_random_model(tmp_path_factory.mktemp("tiny"), processor)


@pytest.fixture(scope="session")
def model(tiny_folder):
    """The random model unquantised, for tests that leave it as it is."""
    from codevision_lite.models.load import load_base

    return load_base(str(tiny_folder), quantize="none")[0]


@pytest.fixture(scope="session")
def nf4_model(tiny_folder):
    """The random model in 4 bits, for tests that leave it as it is."""
    from codevision_lite.models.load import load_base

    return load_base(str(tiny_folder), quantize="nf4")[0]
