// One sample as an article. Text only ever enters the page through text nodes: a model wrote it.
const CAP = 600, CONTEXT = 120, TURNS = 3; // characters at first, characters around a change, generations at first
const number = new Intl.NumberFormat("en");
// A metric may be called `constructor`, so nothing inherited counts.
const own = (object, key) => (object && Object.hasOwn(object, key) ? object[key] : undefined);

function el(tag, cls, ...children) {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  node.append(...children);
  return node;
}

function button(cls, label, press) {
  const node = el("button", cls, label);
  node.type = "button";
  node.addEventListener("click", press);
  return node;
}

const placeOf = (chosen) => (chosen ? chosen.m + 1 : 0); // of a view in the letters of a sample's buckets

function sample(data, s, chosen) {
  const task = data.tasks[s.a], place = placeOf(chosen), bucket = s.k[place];
  const head = el("header", "", el("span", `bucket bucket-${bucket}`, data.buckets[bucket]), el("h3", "", s.i),
    el("span", "where", task.id));
  if (s.n?.includes(place)) head.append(el("span", "tag tie", s.m === undefined ? "near tie" : `near tie, ${s.m} nat`));
  for (const tag of s.g || []) head.append(el("span", "tag", tag));
  if (s.c) head.append(el("span", "tag", `cluster ${s.c}`));
  if (s.z) head.append(el("span", "tag cut", "cut at max_tokens"));
  const scores = el("ul", "scores", ...task.metrics.map((metric, m) => {
    const [was, now] = s.s[m];
    const said = was === null || was === now ? score(now) : `${score(was)} → ${score(now)}`;
    return el("li", "", `${metric} `, el("b", "", said));
  }));
  const article = el("article", `sample edge-${bucket}`, head, scores, asked(s), answers(s), ...reasons(s, task));
  if (s.l) article.append(whole(data, s, task));
  article.tabIndex = -1;
  return article;
}

const score = (value) => (value === null ? "–" : String(Math.round(value * 1e4) / 1e4));

function asked(s) {
  const parts = s.q === undefined ? null : differences(kept(s.q), kept(s.p ?? ""));
  const box = el("div", "asked", block("Prompt", s.p, parts, "ins"));
  if (parts) box.append(block("Prompt of the baseline", s.q, parts, "del"));
  if (s.t !== undefined) box.append(block("Target", s.t));
  return box;
}

const block = (title, text, parts, kind) => el("div", "block", el("h4", "", title), body(text, parts, kind));

// Both answers side by side, the same answer once, and why there is none.
function answers(s) {
  const now = s.o || [], was = s.only ? null : s.w || now, box = el("div", "sides");
  if (was && s.w === undefined) {
    if (now.length || !s.e) box.append(side("Was and is", now));
  } else {
    const parts = now.map((text, i) => (was?.[i] === undefined ? null : differences(kept(was[i]), kept(text))));
    if (was) box.append(side("Was", was, parts, "del"));
    box.append(side("Now", now, parts, "ins"));
    if (was && was.length === now.length && parts.every((each) => each.every((part) => part.same !== undefined)))
      box.append(el("p", "beyond", "The two differ beyond where they are cut."));
  }
  const missing = now.length ? "No score" : "No answer";
  if (s.e) box.append(el("div", "side", el("h4", "", missing), body(s.e, null, "", "error")));
  return box;
}

function side(title, texts, parts = [], kind = "") {
  const box = el("div", "side", el("h4", "", title));
  if (!texts.length) box.append(el("div", "text empty", "no text: log-likelihoods only, or no answer"));
  const turns = texts.map((text, i) => body(text, parts[i], kind));
  box.append(...turns.slice(0, TURNS));
  if (turns.length > TURNS) {
    const all = button("all", `Show all ${turns.length} generations`, () => all.replaceWith(...turns.slice(TURNS)));
    box.append(all);
  }
  return box;
}

// What judges said of both sides, and what scorers found, with the scores they gave for it.
function reasons(s, task) {
  const found = task.metrics.flatMap((metric, m) => {
    const now = own(s.x, metric), was = s.only ? undefined : s.v === undefined ? now : own(s.v, metric);
    if (now === undefined && was === undefined) return [];
    const [before, after] = s.s[m], same = was === now && before === after;
    const said = (title, value, text) =>
      el("div", "side", el("h4", "", `${title} `, el("b", "", score(value))), text === undefined
        ? el("div", "text empty", "nothing said") : body(text));
    const sides = same ? [said("Was and is", after, now)]
      : [...(s.only ? [] : [said("Was", before, was)]), said("Now", after, now)];
    const who = task.judges.includes(m) ? "the judge's reason" : "what was found";
    return [el("section", "judged", el("h4", "", el("b", "", metric), ` · ${who}`), el("div", "sides", ...sides))];
  });
  return found;
}

const kept = (text) => (Array.isArray(text) ? text[0] : text);

// A text, short at first: what changed with the words around it, or its beginning.
function body(given, parts, kind, cls = "") {
  const text = kept(given);
  if (text === "" || text === undefined) return el("div", "text empty", "empty");
  const which = kind === "del" ? "was" : "now";
  const pieces = (parts || [{ same: text }])
    .map((part) => (part.same === undefined ? { text: part[which], kind } : { text: part.same }))
    .filter((piece) => piece.text);
  const box = el("div", `text ${cls}`), around = el("div", "", box);
  box.dir = "auto";
  box.append(...(text.length <= CAP ? pieces : excerpt(pieces)).map(drawn));
  if (text.length > CAP)
    around.append(button("all", `Show all ${number.format(text.length)} characters`, (event) => {
      box.replaceChildren(...pieces.map(drawn));
      event.currentTarget.remove();
      box.tabIndex = -1;
      box.focus();
    }));
  if (given !== text) {
    const link = el("a", "", "the whole text");
    link.href = "samples.jsonl";
    const [here, all] = [[...text].length, given[1]].map(number.format);
    around.append(el("p", "cut-short", `Cut after ${here} of ${all} characters: `, link));
  }
  return around;
}

function excerpt(pieces) {
  const found = [];
  let room = pieces.length === 1 ? CAP : 2 * CAP, left = 0;
  pieces.forEach((piece, i) => {
    const long = pieces.length > 1 && !piece.kind && piece.text.length > 3 * CONTEXT;
    const first = long && !i ? "" : head(piece.text, Math.min(room, long ? CONTEXT : Infinity));
    const last = long && i < pieces.length - 1 && room > 0 ? tail(piece.text, CONTEXT) : "";
    if (first) found.push({ ...piece, text: first });
    left += piece.text.length - first.length - last.length;
    if (last) found.push({ left }, { text: last });
    if (last) left = 0;
    room -= first.length + last.length;
  });
  return left && pieces.length > 1 ? [...found, { left }] : found;
}

// Never half of a character that takes two units; where words are cut off before a change, never half of a word.
const head = (text, n) => text.slice(0, Math.max(n, 0)).replace(n < text.length ? /[\ud800-\udbff]$/ : "", "");
const tail = (text, n) => text.slice(-n).replace(/^(\S{0,20}\s+|[\udc00-\udfff])/, "");

function drawn(piece) {
  if (piece.left) return el("span", "left", `… ${number.format(piece.left)} characters …`);
  if (!piece.kind) return document.createTextNode(piece.text);
  return el(piece.kind, /^\s*\n\s*$/.test(piece.text) ? "break" : "", piece.text);
}

// Where what is cut here stands whole: beside the card, and in the record.
function whole(data, s, task) {
  const note = el("p", "whole", `Whole in line ${number.format(s.l)} of samples.jsonl beside this card`);
  const words = [data.name, task.id, "--sample", s.i];
  if (words.every((word) => /^[^\p{C}\p{Zl}\p{Zp}]+$/u.test(word)))
    note.append(", or by ", el("code", "", `evalgate show ${words.map(quoted).join(" ")}`));
  return note;
}

// As a shell reads it back: a sample's id is anybody's text.
const quoted = (word) => (/^[\w./:@%+,=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
