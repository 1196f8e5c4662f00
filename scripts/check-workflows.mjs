// Parse workflows and actions with GitHub's own parser: node check-workflows.mjs PARSER-FOLDER FILE…
// One line a problem, file:line:column: message; exit code 1 if there is any.
import { existsSync, readFileSync } from "node:fs";
import { register } from "node:module";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";

const OWN = "mlops-actions/mlops-actions/"; // as consumers name what the source calls $/
const [folder, ...files] = process.argv.slice(2);

// The package imports JSON in the manner of bundlers, which Node refuses: a hook hands it the file as a module.
register(
  `data:text/javascript,${encodeURIComponent(`
    import { readFile } from "node:fs/promises";
    export async function load(url, context, next) {
      if (!url.endsWith(".json")) return next(url, context);
      const source = "export default " + (await readFile(new URL(url), "utf8"));
      return { format: "module", source, shortCircuit: true };
    }`)}`,
);

const load = (path) => import(pathToFileURL(join(folder, path)).href);
const { parseWorkflow, convertWorkflowTemplate, NoOperationTraceWriter } = await load("index.js");
const { parseAction, convertActionTemplate } = await load("actions/index.js");
const trace = new NoOperationTraceWriter();
const problems = new Set();

function report(name, range, message) {
  const start = range?.start ?? { line: 1, column: 1 };
  problems.add(`${name}:${start.line}:${start.column}: ${message}`);
}

function reportAll(name, context) {
  for (const error of context.errors.getErrors()) {
    const elsewhere = error.prefix && !error.prefix.startsWith(name); // a workflow that it calls
    if (!elsewhere) report(name, error.range, error.rawMessage.split("\n")[0].replace(/:$/, ""));
  }
}

/** The path in this repository that a `uses:` names, or undefined for what is not ours. */
function ownPath(uses) {
  if (uses.startsWith("$/") || uses.startsWith("./")) return uses.slice(2);
  return uses.startsWith(OWN) ? uses.slice(OWN.length).split("@")[0] : undefined;
}

function action(name) {
  const parsed = parseAction({ name, content: readFileSync(name, "utf8") }, trace);
  const template = parsed.value && convertActionTemplate(parsed.context, parsed.value);
  return { context: parsed.context, template };
}

/** The value of a key of a mapping token. */
function valueOf(mapping, name) {
  for (const { key, value } of mapping ?? []) if (key.value === name) return value;
}

function* steps(workflow) {
  for (const { value: job } of valueOf(workflow, "jobs") ?? []) yield* valueOf(job, "steps") ?? [];
}

/** What GitHub only warns of, or fails on when the step has begun: inputs of own actions unknown or missing. */
function checkStep(name, step) {
  const uses = valueOf(step, "uses");
  const path = uses && ownPath(uses.value);
  if (path === undefined) return;
  const file = `${path}/action.yml`;
  if (!existsSync(file)) return report(name, uses.range, `there is no ${file}`);
  const inputs = new Map((action(file).template?.inputs ?? []).map((input) => [input.id, input]));
  const given = new Set();
  for (const { key } of valueOf(step, "with") ?? []) {
    given.add(key.value);
    if (!inputs.has(key.value)) report(name, key.range, `${path} has no input ${key.value}`);
  }
  for (const [id, input] of inputs) {
    if (input.required && input.default === undefined && !given.has(id))
      report(name, uses.range, `${path} needs the input ${id}`);
  }
}

/** Reusable workflows of this repository, so that what a job hands to one is held against what it takes. */
const provider = {
  async getFileContent(reference) {
    const ours = !("repository" in reference) || `${reference.owner}/${reference.repository}/` === OWN;
    if (!ours) throw new Error(`not ours: ${reference.path}`);
    return { name: reference.path, content: readFileSync(reference.path, "utf8") };
  },
};

async function workflow(name) {
  const { context, value } = parseWorkflow({ name, content: readFileSync(name, "utf8") }, trace);
  if (value) {
    await convertWorkflowTemplate(context, value, provider, { fetchReusableWorkflowDepth: 1 });
    if (!context.errors.count) for (const step of steps(value)) checkStep(name, step);
  }
  reportAll(name, context);
}

for (const name of files) {
  if (/^action\.ya?ml$/.test(basename(name))) reportAll(name, action(name).context);
  else await workflow(name);
}
for (const problem of problems) console.log(problem);
if (!problems.size) console.log(`check-workflows: GitHub's parser accepts ${files.length} files`);
process.exitCode = problems.size ? 1 : 0;
