"""The registry of models: immutable, content-addressed versions in the object store, and aliases that move.

The layout is public. With `$MLOPS_STORE` as the prefix:

| object | what | written |
| --- | --- | --- |
| `models/<name>/versions/<n>.json` | a version's manifest (`manifest.Manifest`) | once: If-None-Match |
| `models/<name>/versions/<n>/evidence/<hex>.json` | a check that was made later | once |
| `models/<name>/versions/<n>/signatures/<hex>.sigstore.json` | a signature (`signing`) | once |
| `models/<name>/aliases/<alias>.json` | which version an alias names, and its history | compare-and-swap: If-Match |
| `blobs/sha256/<hex>` | the bytes with that SHA-256: files of models, cards, predictions, records | once |

Blobs are written first and the manifest last, so a version is there as a whole or not at all. A blob that is there
when it is to be written is read, and written again if it is damaged. A blob that no manifest names does no harm.
No code of this project is needed to fetch a model:

    version=$(aws s3 cp $MLOPS_STORE/models/flight-delays/aliases/champion.json - | jq .version)
    aws s3 cp $MLOPS_STORE/models/flight-delays/versions/$version.json - |
      jq -r '.files[] | "\\(.digest | sub("sha256:"; "")) \\(.path)"' |
      while read -r hex path; do aws s3 cp $MLOPS_STORE/blobs/sha256/$hex model/$path; done
"""
