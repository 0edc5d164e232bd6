#!/usr/bin/env bash
# What transformers 5.24.0 saves of a Qwen 3 mixture of experts, transformers 4.57.1 reads with another number of experts.
#
# Seen on 2026-12-01, Linux x64, Python 3.11: a Qwen3MoeConfig with 4 experts, saved by 5.24.0, has "num_local_experts": 4 in
# its config.json and no "num_experts": the new version keeps the count under one name for all mixtures and maps the old
# one to it. 4.57.1 does not know that name for this type of model. It keeps the value as an attribute that nothing uses and takes
# its default of 128 experts, without a warning.
# Who writes such a config.json for readers of both kinds writes both keys; who reads one looks for either.
#
# Exits with 0 while this holds, with 1 when it has changed. No weights and no torch are needed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for version in 5.24.0 4.57.1; do
  python3 -m venv "v$version"
  "v$version/bin/pip" install --quiet --disable-pip-version-check "transformers==$version"
done

cat > save.py <<'PY'
from transformers import AutoConfig

AutoConfig.for_model('qwen3_moe', num_experts=4, num_experts_per_tok=2).save_pretrained('saved')
PY
cat > load.py <<'PY'
from transformers import AutoConfig

print(AutoConfig.from_pretrained('saved').num_experts)
PY
v5.24.0/bin/python save.py 2> /dev/null
echo "config.json says: $(grep -o '"num[a-z_]*experts": [0-9]*' saved/config.json | tr '\n' ' ')"
new=$(v5.24.0/bin/python load.py 2> /dev/null)
old=$(v4.57.1/bin/python load.py 2> /dev/null)
echo "5.24.0 reads $new experts, 4.57.1 reads $old"
[ "$new" = 4 ] && [ "$old" = 128 ] && ! grep -q '"num_experts"' saved/config.json
