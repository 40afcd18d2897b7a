"use strict";
// What two texts differ by, word by word: the greedy algorithm of Myers (1986), "An O(ND) difference algorithm".
// Beyond this many changed words two texts are different ones, and a page of them must not take a second.
const MOST_CHANGES = 400;
// Words, numbers, line ends, other space, anything else; a letter each where a script writes no spaces.
const TOKEN = new RegExp(
  "[\\p{sc=Han}\\p{sc=Hira}\\p{sc=Kana}\\p{sc=Thai}\\p{sc=Laoo}\\p{sc=Khmr}\\p{sc=Mymr}]\\p{M}*" +
  "|[\\p{L}\\p{M}\\p{N}_]+|\\n|[^\\S\\n]+|[^]", "gu");

// Parts in order, each `{ same }` or `{ was, now }`: `same` and `was` make the one text, `same` and `now` the other.
function differences(was, now) {
  const a = was.match(TOKEN) || [], b = now.match(TOKEN) || [];
  let from = 0, end = 0;
  while (from < Math.min(a.length, b.length) && a[from] === b[from]) from++;
  while (end < Math.min(a.length, b.length) - from && a.at(-1 - end) === b.at(-1 - end)) end++;
  const [keptA, keptB] = common(a.slice(from, a.length - end), b.slice(from, b.length - end));
  const isSame = (i, kept, all) => i < from || i >= all.length - end || kept[i - from] === 1;
  const parts = [];
  for (let i = 0, j = 0; i < a.length || j < b.length;) {
    let same = "", before = "", after = "";
    while (i < a.length && j < b.length && isSame(i, keptA, a) && isSame(j, keptB, b)) same += a[i++], j++;
    while (i < a.length && !isSame(i, keptA, a)) before += a[i++];
    while (j < b.length && !isSame(j, keptB, b)) after += b[j++];
    if (same) parts.push({ same });
    if (before || after) parts.push({ was: before, now: after });
  }
  return joined(parts);
}

// Changes with nothing but a space between them are one change: that is how people read them.
function joined(parts) {
  const found = [];
  parts.forEach((part, i) => {
    const last = found.at(-1), between = i < parts.length - 1 && /^[^\S\n]+$/.test(part.same ?? "");
    if (last?.now !== undefined && (between || part.same === undefined)) {
      last.was += part.same ?? part.was;
      last.now += part.same ?? part.now;
    } else {
      found.push({ ...part });
    }
  });
  return found;
}

// Which tokens of each side stand on both: a longest common subsequence, or none where the texts have too little of it.
function common(a, b) {
  const numbers = new Map([...new Set([...a, ...b])].map((token, i) => [token, i]));
  const x = Int32Array.from(a, (token) => numbers.get(token)), y = Int32Array.from(b, (token) => numbers.get(token));
  const n = x.length, m = y.length, most = Math.min(n + m, MOST_CHANGES);
  const reached = new Int32Array(2 * most + 2), rounds = [];
  for (let d = 0; d <= most; d++) {
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && reached[most + k - 1] < reached[most + k + 1]);
      let i = down ? reached[most + k + 1] : reached[most + k - 1] + 1;
      while (i < n && i - k < m && x[i] === y[i - k]) i++;
      reached[most + k] = i;
      if (k === n - m && i >= n) return path(n, m, rounds, d);
    }
    rounds.push(reached.slice(most - d, most + d + 1));
  }
  return [new Uint8Array(n), new Uint8Array(m)];
}

function path(n, m, rounds, changes) {
  const keptA = new Uint8Array(n), keptB = new Uint8Array(m);
  let i = n, j = m;
  for (let d = changes; d > 0; d--) {
    const k = i - j, at = (diagonal) => rounds[d - 1][diagonal + d - 1];
    const down = k === -d || (k !== d && at(k - 1) < at(k + 1));
    const before = at(down ? k + 1 : k - 1), start = down ? before : before + 1;
    while (i > start) keptA[--i] = keptB[--j] = 1;
    i = before;
    j = before - (down ? k + 1 : k - 1);
  }
  while (i > 0) keptA[--i] = keptB[--j] = 1;
  return [keptA, keptB];
}
