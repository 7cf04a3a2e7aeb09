"""Two workers share the cores: with one thread each they do not wait for one another."""

import os

import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
