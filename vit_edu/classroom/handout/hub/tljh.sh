#!/bin/bash
# The Littlest JupyterHub: run it once, as an administrator, on the server.
set -euo pipefail

# PyTorch for CPUs first: the registry's own brings several GB of CUDA.
sudo -E /opt/tljh/user/bin/pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
sudo -E /opt/tljh/user/bin/pip install "vit-edu[lab] @ git+$address" nbgitpuller "nbgrader>=0.9.5"

# Memory of a learner: the hungriest lesson takes $peak GB; with this limit a second one may be open. 30 learners who all
# have two open need $thirty GB.
sudo tljh-config set limits.memory ${limit}G
sudo tljh-config set limits.cpu 2
sudo tljh-config set user_environment.default_app jupyterlab
sudo tljh-config set services.cull.timeout 3600
sudo tljh-config reload
