// What runs of ours inside promptfoo: the provider that replays answers, the grader that asks our gateway, and the two
// functions by which texts come in. promptfoo's configuration holds names only, so no text that a model or a data file
// wrote is ever rendered as a template, opened as file:// or package:, parsed as JSON or stored as a blob.
import { appendFileSync, readFileSync } from "node:fs";

const { answer, question, cases, values, endpoint, failures, seconds, tokens } = JSON.parse(
  readFileSync(new URL("texts.json", import.meta.url), "utf8"),
);
const asked = new Map(); // case to the number of questions so far

const text = { type: "string" };
const number = (maximum) => ({ type: "number", minimum: 0, maximum });
const object = (properties) => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});
// What a reply must be, by what promptfoo calls its question; where nothing stands here, prose.
const SCHEMAS = {
  "llm-rubric": object({ reason: text, pass: { type: "boolean" }, score: number(1) }),
  factuality: object({ category: { enum: ["A", "B", "C", "D", "E"] }, reason: text }),
  "g-eval-steps": object({ steps: { type: "array", items: text, minItems: 1 } }),
  "g-eval": object({ reason: text, score: number(10) }),
};

function fits(value, schema) {
  if (schema.enum) return schema.enum.includes(value);
  if (schema.type === "number") return typeof value === "number" && value >= schema.minimum && value <= schema.maximum;
  if (schema.type === "array") return Array.isArray(value) && value.length > 0 && value.every((each) => fits(each, schema.items));
  if (schema.type !== "object") return typeof value === schema.type;
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const keys = Object.keys(schema.properties);
  return Object.keys(value).length === keys.length && keys.every((key) => fits(value[key], schema.properties[key]));
}

// promptfoo guesses where a reply is not what it asked for: no score becomes 1, "high" becomes 1, prose becomes 0. Here
// such a reply is an error, and what promptfoo gets is JSON that it reads in one way.
function strict(label, reply) {
  if (typeof reply !== "string" || !reply.trim()) throw new Error("gave no text");
  if (label === "model-graded-closedqa") {
    if (!/(^|\W)[YN]$/.test(reply.trimEnd())) throw new Error("gave neither Y nor N at its end");
    return reply;
  }
  if (!SCHEMAS[label]) return reply;
  let value;
  try {
    value = JSON.parse(reply);
  } catch {
    throw new Error("gave no JSON object");
  }
  const keys = Object.keys(SCHEMAS[label].properties);
  const twice = keys.some((key) => reply.match(RegExp(`(?<!\\\\)"${key}"\\s*:`, "g"))?.length > 1);
  if (twice || !fits(value, SCHEMAS[label])) throw new Error(`gave JSON that is not ${keys.join(", ")}, each once and in range`);
  return JSON.stringify(value);
}

export default class Evalgate {
  constructor({ id, config }) {
    this.id = () => id;
    this.config = { ...config, maxRetries: 0 }; // the gateway retries, inside one deadline
  }

  async callApi(prompt, context) {
    if (!this.config.grades) {
      Object.assign(context.vars, { ...cases[context.vars.evalgate].vars, evalgate: context.vars.evalgate });
      return { output: answer };
    }
    const [id, label, begun] = [this.config.grades, context.prompt.label, Date.now()];
    asked.set(id, (asked.get(id) ?? 0) + 1);
    try {
      return { output: strict(label, await ask(cases[id], prompt, label)) };
    } catch (error) {
      const what = `${label}: ${error.cause?.message ?? error.message}`;
      appendFileSync(failures, `${JSON.stringify({ id, what, asked: asked.get(id), seconds: (Date.now() - begun) / 1000 })}\n`);
      return { error: "the judge failed" };
    }
  }

  // The transform of an assertion that asks no model: the answer in place of its name.
  static answer(_, { vars }) {
    return cases[vars.evalgate].answer;
  }

  // The value of an assertion.
  static value(_, { config }) {
    return values[config.evalgate];
  }
}

async function ask({ answer: said, question: put, model }, prompt, label) {
  const fill = (part) => part.split(question).map((piece) => piece.replaceAll(answer, () => said)).join(put);
  const schema = SCHEMAS[label];
  const response = await fetch(`${endpoint.url}/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${endpoint.token}` },
    body: JSON.stringify({
      model,
      messages: messages(prompt).map(({ role, content }) => ({ role, content: fill(content) })),
      temperature: 0,
      seed: 0,
      max_tokens: tokens,
      ...(schema && { response_format: { type: "json_schema", json_schema: { name: label, schema, strict: true } } }),
    }),
    signal: AbortSignal.timeout(seconds * 1000),
  });
  const reply = await response.json();
  if (!response.ok) throw new Error(reply.error?.message ?? `the gateway answered with status ${response.status}`);
  const [choice] = reply.choices;
  if (choice.finish_reason === "length") throw new Error(`gave a reply that was cut at ${tokens} tokens`);
  return choice.message.content;
}

function messages(prompt) {
  try {
    const found = JSON.parse(prompt);
    if (found.every(({ role, content }) => typeof role === "string" && typeof content === "string")) return found;
  } catch {} // a text
  return [{ role: "user", content: prompt }];
}
