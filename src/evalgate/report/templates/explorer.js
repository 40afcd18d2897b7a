"use strict";
// Shows the samples. Text only ever enters the page through textContent and text nodes: a model wrote it.
(() => {
  const PAGE = 25, CAP = 600, DIFF_CAP = 4000, TURNS = 3;
  const get = (id) => document.getElementById(id);
  const data = JSON.parse(get("data").textContent);
  const form = get("controls"), list = get("list"), more = get("more"), count = get("count");
  const view = get("view"), query = get("query");
  const number = new Intl.NumberFormat("en");

  // A view is one metric of one task: [task, metric], by the verdict's number; no view is all blocking metrics.
  const chosenView = () => {
    const [a, m] = (view.value && data.views[view.value]) || [-1, 0];
    return view.value ? { a, m } : null;
  };

  const el = (tag, cls, ...children) => {
    const node = document.createElement(tag);
    if (cls) node.className = cls;
    node.append(...children);
    return node;
  };

  const haystack = (s) => s.hay ||= [
    s.i, s.p, s.q, s.t, s.e, s.c, data.tasks[s.a].id, ...(s.o || []), ...(s.w || []), ...(s.g || []),
    s.n && "near tie", ...Object.values(s.x || {}), ...Object.values(s.v || {}),
  ].filter((text) => text != null).join("\n").toLowerCase();

  const place = (chosen) => chosen ? chosen.m + 1 : 0; // in a sample's buckets
  const bucketOf = (s, chosen) => s.k[place(chosen)];
  const order = Object.keys(data.buckets);
  let found = [], shown = 0;

  function select() {
    const chosen = chosenView(), words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    const inView = data.samples.filter((s) =>
      (!chosen || s.a === chosen.a) && words.every((word) => haystack(s).includes(word)));
    const counts = { "": inView.length };
    for (const s of inView) counts[bucketOf(s, chosen)] = (counts[bucketOf(s, chosen)] || 0) + 1;
    for (const output of form.querySelectorAll("output[data-count]")) {
      const n = counts[output.dataset.count] || 0;
      output.textContent = number.format(n);
      output.closest("label").hidden = "EN".includes(output.dataset.count || "-") && !n;
    }
    const bucket = form.elements.bucket.value;
    found = inView.filter((s) => !bucket || bucketOf(s, chosen) === bucket)
      .sort((x, y) => order.indexOf(bucketOf(x, chosen)) - order.indexOf(bucketOf(y, chosen)));
    list.replaceChildren();
    shown = 0;
    show();
  }

  function show() {
    const chosen = chosenView(), from = shown;
    shown = Math.min(shown + PAGE, found.length);
    list.append(...found.slice(from, shown).map((s) => sample(s, place(chosen))));
    more.hidden = shown === found.length;
    more.textContent = `Show ${Math.min(PAGE, found.length - shown)} more`;
    const left = data.left_out ? ` ${number.format(data.left_out)} more are in the records only.` : "";
    count.textContent = (found.length
      ? `Showing ${number.format(shown)} of ${number.format(found.length)} samples.` : "No sample matches.") + left;
    return list.children[from];
  }

  function sample(s, at) {
    const task = data.tasks[s.a], bucket = s.k[at];
    const head = el("header", "", el("span", `bucket bucket-${bucket}`, data.buckets[bucket]), el("h3", "", s.i),
      el("span", "where", task.id));
    if (s.n?.includes(at)) head.append(el("span", "tag tie", s.m === undefined ? "near tie" : `near tie, ${s.m} nat`));
    for (const tag of s.g || []) head.append(el("span", "tag", tag));
    if (s.c) head.append(el("span", "tag", `cluster ${s.c}`));
    if (s.z) head.append(el("span", "tag cut", "cut at max_tokens"));
    const scores = el("ul", "scores", ...task.metrics.map((metric, m) => {
      const [was, now] = s.s[m];
      const said = was === null || was === now ? score(now) : `${score(was)} → ${score(now)}`;
      return el("li", "", `${metric} `, el("b", "", said));
    }));
    const asked = el("div", "asked", block("Prompt", s.p));
    if (s.q !== undefined && s.q !== s.p) asked.append(block("Prompt of the baseline", s.q));
    if (s.t !== undefined) asked.append(block("Target", s.t));
    const now = s.o || [], was = s.only ? null : s.w || now;
    const same = was !== null && s.w === undefined;
    const sides = el("div", "sides");
    if (same && (now.length || !s.e)) {
      sides.append(side("Was and is", now, [], s.x, s.v));
    } else {
      if (was !== null) sides.append(side("Was", was, now, s.v || s.x));
      sides.append(side("Now", now, was || [], s.x));
    }
    if (s.e) sides.append(el("div", "side", el("h4", "", now.length ? "No score" : "No answer"), el("div", "text error", s.e)));
    const article = el("article", `sample edge-${bucket}`, head, scores, asked, sides);
    article.tabIndex = -1;
    return article;
  }

  const score = (value) => value === null ? "–" : String(Math.round(value * 1e4) / 1e4);

  function side(title, texts, others, notes, before) {
    const box = el("div", "side", el("h4", "", title));
    if (!texts.length) box.append(el("div", "text empty", "no text: log-likelihoods only, or no answer"));
    const turns = texts.map((text, i) => body(text, others[i]));
    box.append(...turns.slice(0, TURNS));
    if (turns.length > TURNS) {
      const all = el("button", "all", `Show all ${turns.length} generations`);
      all.type = "button";
      all.addEventListener("click", () => all.replaceWith(...turns.slice(TURNS)));
      box.append(all);
    }
    for (const [label, found] of [["", notes], ["baseline: ", before]])
      for (const [metric, note] of Object.entries(found || {}))
        box.append(el("div", "judged", el("b", "", `${label}${metric} `), body(note)));
    return box;
  }

  const block = (title, text) => el("div", "block", el("h4", "", title), body(text));

  // A text, capped, with what differs from its partner marked.
  function body(text, other) {
    const box = el("div", "text");
    box.dir = "auto";
    if (text === "" || text === undefined) return el("div", "text empty", "empty");
    const fill = (whole) => box.replaceChildren(...marked(whole ? text : text.slice(0, CAP), other));
    fill(text.length <= CAP);
    if (text.length <= CAP) return box;
    const button = el("button", "all", `Show all ${number.format(text.length)} characters`);
    button.type = "button";
    button.addEventListener("click", () => {
      fill(true);
      button.remove();
      box.tabIndex = -1;
      box.focus();
    });
    return el("div", "", box, button);
  }

  function marked(text, other) {
    if (other === undefined || other === text || text.length + other.length > DIFF_CAP) return [text];
    const a = Array.from(text), b = Array.from(other);
    let from = 0, end = 0;
    while (from < Math.min(a.length, b.length) && a[from] === b[from]) from++;
    while (end < Math.min(a.length, b.length) - from && a.at(-1 - end) === b.at(-1 - end)) end++;
    const middle = a.slice(from, a.length - end).join("");
    if (!middle || !(from + end)) return [text];
    return [a.slice(0, from).join(""), el("mark", "", middle), end ? a.slice(-end).join("") : ""];
  }

  function jump(link) {
    view.value = link.dataset.view ?? "";
    query.value = link.dataset.query ?? "";
    form.elements.bucket.value = link.dataset.bucket ?? "";
    select();
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", select);
  more.addEventListener("click", () => show()?.focus());
  for (const link of document.querySelectorAll("a[data-view]")) link.addEventListener("click", () => jump(link));
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));

  form.hidden = false;
  select();
})();
