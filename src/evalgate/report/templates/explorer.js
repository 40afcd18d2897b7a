// Finds samples: buckets, filters and search, kept in the address so that a view can be sent; all by keyboard too.
(() => {
  const PAGE = matchMedia("(max-width: 40rem)").matches ? 10 : 25; // samples at a time: on a telephone each is tall
  const SLICES = 200, CHUNK = 1 << 20;
  const get = (id) => document.getElementById(id);
  const form = get("controls"), list = get("list"), more = get("more"), count = get("count"), help = get("help");
  const view = get("view"), slice = get("slice"), judge = get("judge"), tie = get("tie"), cut = get("cut");
  const query = get("query"), clear = get("clear");
  let data, found = [], shown = 0, strange = false, waiting;

  // -- the data -------------------------------------------------------------------------------------------------------

  // Unpacked in pieces, so that the page can be read meanwhile.
  async function unpack(packed) {
    const bytes = new ReadableStream({
      start() { this.from = 0; },
      async pull(controller) {
        if (this.from >= packed.length) return controller.close();
        await new Promise((go) => setTimeout(go));
        const raw = atob(packed.slice(this.from, this.from += CHUNK)), piece = new Uint8Array(raw.length);
        for (let i = 0; i < raw.length; i++) piece[i] = raw.charCodeAt(i);
        controller.enqueue(piece);
      },
    });
    return JSON.parse(await new Response(bytes.pipeThrough(new DecompressionStream("gzip"))).text());
  }

  async function start() {
    count.textContent = "Unpacking the samples …";
    const elsewhere = "They also stand in samples.jsonl beside this card.";
    try {
      if (!globalThis.DecompressionStream) throw new Error("this browser has no DecompressionStream, a newer one has");
      data = await unpack(get("data").textContent);
      if (!data.samples.length) return void (count.textContent = "No answer was recorded.");
      offer();
      form.hidden = get("keys").hidden = false;
      if (read()) get("samples").scrollIntoView({ behavior: "instant" });
      select();
      idle(prepare);
    } catch (error) {
      count.textContent = `The samples cannot be shown: ${error.message}. ${elsewhere}`;
      throw error;
    } finally {
      list.removeAttribute("aria-busy");
    }
  }

  const idle = (work) => (globalThis.requestIdleCallback || ((each) => setTimeout(each, 50)))(work);

  // What the search looks through is made while nobody waits, a few milliseconds at a time.
  function prepare(deadline) {
    const until = performance.now() + Math.min(deadline?.timeRemaining() ?? 8, 20);
    for (const s of data.samples) {
      if (s.hay !== undefined) continue;
      if (performance.now() >= until) return idle(prepare);
      haystack(s);
    }
  }

  const texts = (value) => (typeof value === "object" && value ? Object.values(value).flatMap(texts) : [value]);
  const haystack = (s) => s.hay ??= [
    s.i, data.tasks[s.a].id, s.n && "near tie", s.c, ...[s.g, s.p, s.q, s.t, s.e, s.o, s.w, s.x, s.v].flatMap(texts),
  ].filter((text) => typeof text === "string").join("\n").toLowerCase();

  // -- filters --------------------------------------------------------------------------------------------------------

  // A view is one metric of one task, by the verdict's number; no view is all blocking metrics.
  function chosenView() {
    const [a, m] = (view.value && data.views[view.value]) || [-1, 0];
    return view.value ? { a, m } : null;
  }
  const bucketOf = (s, chosen) => s.k[placeOf(chosen)];

  const option = (value, label = value) => new Option(label, value);
  const changed = ([was, now]) => was !== now;
  const moved = (letter) => "RF".includes(letter), compared = (letter) => !"EN".includes(letter);
  const disagree = (x, y) => x !== y && compared(x) && compared(y) && (moved(x) || moved(y));

  // By name: what of a judge to look for. `judged` are the places of the judges' metrics among those of the task.
  const JUDGES = {
    reason: ["a judge gave a reason", (s, task, judged) => judged.some((m) =>
      own(s.x, task.metrics[m]) !== undefined || own(s.v, task.metrics[m]) !== undefined)],
    disagrees: ["a judge disagrees with other metrics", (s, task, judged) =>
      judged.some((m) => task.metrics.some((_, i) => !judged.includes(i) && disagree(s.k[m + 1], s.k[i + 1])))],
    torn: ["a judge scored the same answer differently", (s, task, judged) =>
      !s.only && s.w === undefined && judged.some((m) => !s.s[m].includes(null) && changed(s.s[m]))],
  };

  // Only what there is to choose from.
  function offer() {
    const judged = [...new Set(data.tasks.flatMap((task) => task.judges.map((m) => task.metrics[m])))];
    judge.append(...Object.entries(JUDGES).map(([name, [label]]) => option(name, label)));
    judge.append(...judged.map((metric) => option(`by ${metric}`, `scored by ${metric}`)));
    judge.closest("label").hidden = !judged.length;
    tie.closest("label").hidden = !data.samples.some((s) => s.n);
    cut.closest("label").hidden = !data.samples.some((s) => s.z);
    offerSlices();
  }

  function offerSlices() {
    const chosen = chosenView(), was = slice.value, groups = new Map();
    for (const s of data.samples) {
      if (chosen && s.a !== chosen.a) continue;
      for (const tag of s.g || []) {
        const name = tag.slice(0, tag.indexOf("="));
        if (!groups.has(name)) groups.set(name, new Set());
        groups.get(name).add(tag);
      }
    }
    const byName = new Intl.Collator("en", { numeric: true }).compare;
    slice.replaceChildren(slice.options[0], ...[...groups].sort().map(([name, tags]) => {
      const group = document.createElement("optgroup");
      group.label = tags.size > SLICES ? `${name} (${tags.size} values: search for others)` : name;
      group.append(...[...tags].sort(byName).slice(0, SLICES).map((tag) => option(tag)));
      return group;
    }));
    choose(slice, was);
    slice.closest("label").hidden = !groups.size;
  }

  // A value that is not offered is none.
  function choose(control, value) {
    const there = [...control.options].find((each) => each.value === value);
    control.value = there ? value : "";
    return Boolean(there);
  }

  function select() {
    const chosen = chosenView(), words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = own(JUDGES, judge.value)?.[1], by = judge.value.startsWith("by ") ? judge.value.slice(3) : null;
    const inView = data.samples.filter((s) => {
      const task = data.tasks[s.a];
      return (!chosen || s.a === chosen.a)
        && (!slice.value || s.g?.includes(slice.value))
        && (!tie.checked || s.n?.includes(placeOf(chosen)))
        && (!cut.checked || s.z)
        && (!fits || fits(s, task, task.judges))
        && (by === null || task.judges.some((m) => task.metrics[m] === by && s.s[m][1] !== null))
        && words.every((word) => haystack(s).includes(word));
    });
    const counts = { "": inView.length };
    for (const s of inView) counts[bucketOf(s, chosen)] = (counts[bucketOf(s, chosen)] || 0) + 1;
    const bucket = form.elements.bucket.value, order = Object.keys(data.buckets);
    for (const beside of form.querySelectorAll("[data-count]")) {
      const letter = beside.dataset.count, n = counts[letter] || 0;
      beside.textContent = number.format(n);
      beside.closest("label").hidden = "EN".includes(letter || "-") && !n && bucket !== letter;
    }
    found = inView.filter((s) => !bucket || bucketOf(s, chosen) === bucket)
      .sort((x, y) => order.indexOf(bucketOf(x, chosen)) - order.indexOf(bucketOf(y, chosen)));
    list.replaceChildren();
    shown = 0;
    show();
  }

  function show() {
    const chosen = chosenView(), from = shown;
    shown = Math.min(shown + PAGE, found.length);
    list.append(...found.slice(from, shown).map((s) => sample(data, s, chosen)));
    more.hidden = shown === found.length;
    more.textContent = `Show ${Math.min(PAGE, found.length - shown)} more`;
    say();
    return list.children[from];
  }

  function say() {
    const label = (control) => control.selectedOptions[0].text;
    const said = [
      data.buckets[form.elements.bucket.value], view.value && label(view), slice.value,
      judge.value && label(judge), tie.checked && "near ties", cut.checked && "cut at max_tokens",
      query.value.trim() && `“${query.value.trim()}”`,
    ].filter(Boolean);
    clear.hidden = !said.length;
    count.textContent = [
      found.length ? `Showing ${number.format(shown)} of ${number.format(found.length)} samples` : "No sample matches",
      said.length ? `: ${said.join(" · ")}.` : ".",
      data.left_out ? ` ${number.format(data.left_out)} more stand in samples.jsonl beside this card.` : "",
      strange ? " Part of the link does not fit this card." : "",
    ].join("");
  }

  // -- the address ----------------------------------------------------------------------------------------------------

  const HASH = "#samples?";

  function write() {
    const state = {
      bucket: form.elements.bucket.value, metric: view.value && view.selectedOptions[0].text, slice: slice.value,
      judge: judge.value, tie: tie.checked ? "1" : "", cut: cut.checked ? "1" : "", q: query.value.trim(),
    };
    const said = new URLSearchParams(Object.entries(state).filter(([, value]) => value)).toString();
    history.replaceState(null, "", said ? HASH + said : "#samples");
  }

  // Anybody can make a link: only what this card offers is taken from it. Whether the address asks for samples.
  function read() {
    if (!location.hash.startsWith(HASH)) return false;
    const given = new URLSearchParams(location.hash.slice(HASH.length)), asked = (name) => given.get(name) ?? "";
    const bucket = [...form.elements.bucket].find((each) => each.value === asked("bucket"));
    form.elements.bucket.value = bucket?.value ?? "";
    const metric = [...view.options].find((each) => each.value && each.text === asked("metric"));
    view.value = metric?.value ?? "";
    offerSlices();
    const taken = [bucket, metric || !asked("metric"), choose(slice, asked("slice")), choose(judge, asked("judge"))];
    strange = !taken.every(Boolean);
    tie.checked = asked("tie") === "1";
    cut.checked = asked("cut") === "1";
    query.value = asked("q").slice(0, query.maxLength);
    return true;
  }

  function change() {
    strange = false;
    select();
    write();
  }

  function reset() {
    clearTimeout(waiting);
    form.reset();
    offerSlices();
  }

  // -- by mouse -------------------------------------------------------------------------------------------------------

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(waiting);
    change();
  });
  form.addEventListener("input", (event) => {
    clearTimeout(waiting);
    if (event.target === view) offerSlices();
    if (event.target === query) waiting = setTimeout(change, 80);
    else change();
  });
  clear.addEventListener("click", () => {
    reset();
    change();
    query.focus();
  });
  more.addEventListener("click", () => show()?.focus());
  addEventListener("hashchange", () => {
    if (!data || !read()) return;
    get("samples").scrollIntoView();
    select();
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));

  // The numbers in the tables lead to their samples.
  function jump(event) {
    const link = event.currentTarget;
    event.preventDefault();
    if (!data) return;
    reset();
    choose(view, link.dataset.view ?? "");
    offerSlices();
    query.value = link.dataset.query ?? "";
    form.elements.bucket.value = link.dataset.bucket ?? "";
    change();
    get("samples").scrollIntoView();
    count.focus({ preventScroll: true });
  }
  for (const link of document.querySelectorAll("a[data-view]")) link.addEventListener("click", jump);

  // -- by keyboard ----------------------------------------------------------------------------------------------------

  const current = () => document.activeElement.closest("article");

  function step(by) {
    const all = [...list.children], at = all.indexOf(current());
    let next = all[at < 0 ? 0 : Math.max(at + by, 0)];
    if (!next && !more.hidden) next = show();
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: "start", behavior: "instant" });
  }

  const open = () => current()?.querySelectorAll("button.all").forEach((each) => each.click());
  const KEYS = {
    "/": () => query.focus(), j: () => step(1), k: () => step(-1), o: open, "?": () => help.showModal(),
  };
  const AT_SAMPLE = { ArrowDown: () => step(1), ArrowUp: () => step(-1), Enter: open };

  addEventListener("keydown", (event) => {
    const at = event.target;
    if (!data || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || help.open) return;
    if (at === query && event.key === "Escape" && !query.value) query.blur();
    if (at.closest?.("input, select, textarea, [contenteditable]")) return;
    const act = own(KEYS, event.key) || (at.matches?.("article") && own(AT_SAMPLE, event.key));
    if (!act) return;
    event.preventDefault();
    act();
  });
  get("keys").addEventListener("click", () => help.showModal());
  get("close").addEventListener("click", () => help.close());

  // First the page, then the samples. Nobody paints a page that nobody looks at.
  if (document.hidden) start();
  else requestAnimationFrame(() => setTimeout(start));
})();
