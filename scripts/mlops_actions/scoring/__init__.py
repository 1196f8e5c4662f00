"""How ready a model is for production, by what records, manifests and deployments show: `known` has what is kept,
`evidence` looks for one thing in it, `rubric` is the table of all lines, `score` counts."""
