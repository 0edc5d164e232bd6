#!/usr/bin/env bash
# transformers 5.24.0 lets "rope_scaling" replace "rope_parameters" whole, and takes theta from the default in silence.
#
# Seen on 2026-12-01, Linux x64, Python 3.11, with transformers 5.24.0 (no torch needed: settings alone are made), a
# LlamaConfig of three config.json:
#   rope_parameters {rope_theta 500000, default}                            theta 500000
#   the same beside rope_scaling {linear, factor 2}                         theta 10000, no warning
#   the same two beside a rope_theta of 500000 at the top                   theta 500000
# Both spellings in one file are what a tool writes that means to serve versions 4 and 5, since version 4 and others read
# rope_scaling alone. The file must say rope_theta at the top besides, or version 5 rotates by another base.
#
# Exits with 0 while this holds, with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check transformers==5.24.0

cat > thetas.py <<'PY'
import json, os, tempfile
from transformers import AutoConfig

sizes = dict(model_type="llama", vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
parameters = dict(rope_parameters=dict(rope_theta=500000.0, rope_type="default"))
scaling = dict(rope_scaling=dict(rope_type="linear", factor=2.0))
for settings in [parameters, parameters | scaling, parameters | scaling | dict(rope_theta=500000.0)]:
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(sizes | settings, file)
        print(int(AutoConfig.from_pretrained(folder).rope_parameters["rope_theta"]))
PY
found=$(env/bin/python thetas.py 2> said | tr '\n' ' ')
echo "thetas: $found"
grep -i rope said && { echo "it says something of it now"; exit 1; }
[ "$found" = "500000 10000 500000 " ] || { echo "changed"; exit 1; }
