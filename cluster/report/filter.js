"use strict";
// What the filter's text means: a test for each row of the table of cells, or the words that say why it means nothing.

const PREFIXES = { k: 1e3, M: 1e6, G: 1e9, T: 1e12, m: 1e-3, u: 1e-6, µ: 1e-6, n: 1e-9, "%": 1e-2 };
const BYTES = { b: 1, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, tib: 2 ** 40 };
const NS = { ns: 1, us: 1e3, "µs": 1e3, ms: 1e6, s: 1e9, min: 60e9, h: 3600e9 };
const HOLDS = {
  "<": (x, y) => x < y, ">": (x, y) => x > y, "=": (x, y) => x === y, "!=": (x, y) => x !== y, "<=": (x, y) => x <= y,
  ">=": (x, y) => x >= y,
};

// A number in the column's own unit; NaN if it is none.
function amount(text, unit) {
  const parts = /^([+-]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(\S*)$/i.exec(text.trim());
  if (!parts) return NaN;
  const number = Number(parts[1].replaceAll(",", ""));
  const [of, small] = [parts[2], parts[2].toLowerCase()];
  if (!of) return number;
  if (unit === "pages" && small in BYTES) return (number * BYTES[small]) / 4096;
  if (unit === "ns" && small in NS) return number * NS[small];
  if (unit === "s" && small in NS) return (number * NS[small]) / 1e9;
  if (of === unit) return number;
  return of in PREFIXES ? number * PREFIXES[of] : of === "K" ? number * 1e3 : NaN;
}

function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, place) => place);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length];
}

function suggestion(word, known) {
  const near = known.map((each) => [distance(word.toLowerCase(), each.toLowerCase()), each]).sort((a, b) => a[0] - b[0]);
  if (near.length && near[0][0] <= Math.max(1, word.length / 3)) return `: did you mean “${near[0][1]}”?`;
  return known.length <= 12 ? `: there are ${known.join(", ")}` : "";
}

// Every name of a column: its heading, the summary's name, a key's path, its last part and its name in the tables.
function namesOf(column) {
  const names = [column.name, column.key || column.name.replaceAll(".", "_"), column.name.split(".").pop()];
  return [...new Set(names.map((name) => name.toLowerCase()))];
}

// data: columns, id(row) and value(column, row). Gives {test, problem}: problem is "" if all of the text has a meaning.
function readFilter(text, data) {
  const tests = [];
  const known = data.columns.flatMap(namesOf);
  const find = (name) => data.columns.find((column) => namesOf(column).includes(name))
    || data.columns.find((column) => namesOf(column).includes(name.replaceAll(" ", "_")));
  const labels = data.columns.filter((column) => column.labels);
  const word = (each) => {
    const small = each.toLowerCase();
    const has = labels.map((column) => [column, column.labels.map((label) => label.toLowerCase().includes(small))]);
    const some = has.some(([, of]) => of.includes(true)) || data.someId(small);
    if (!some) return `no cell has “${each}”${suggestion(each, [...labels.flatMap((column) => column.labels), ...known])}`;
    tests.push((row) => has.some(([column, of]) => of[column.codes[row]]) || data.id(row).includes(small));
    return "";
  };
  const compare = (column, sign, value) => {
    const holds = HOLDS[sign];
    if (column.labels && column.values.some((each) => typeof each === "string")) {
      const small = value.toLowerCase();
      if (sign !== "=" && sign !== "!=") return `${column.name} has words: compare it by = or !=`;
      if (!column.labels.some((label) => label.toLowerCase() === small)) {
        return `no ${column.name} is “${value}”${suggestion(value, column.labels)}`;
      }
      tests.push((row) => holds(column.labels[column.codes[row]].toLowerCase(), small));
      return "";
    }
    const bound = amount(value, column.unit);
    if (Number.isNaN(bound)) return `“${value}” is no number for ${column.name}: write for example 900k, 0.25 or 15%`;
    tests.push((row) => holds(data.value(column, row), bound));
    return "";
  };
  const units = { pages: "KiB, MiB or GiB", ns: "us, ms or s", s: "us, ms or s" };
  let rest = text;
  let bare = null; // the column of the last comparison, if its value had no unit
  while (rest.trim()) {
    const found = /(<=|>=|!=|==|<|>|=)\s*("[^"]*"|[^\s<>=!]+)?/.exec(rest);
    const before = (found ? rest.slice(0, found.index) : rest).trim().split(/\s+/).filter(Boolean);
    let column;
    if (found) { // the longest run of words before the sign that is a name; a heading may have several
      let from = 0;
      while (from < before.length && !(column = find(before.slice(from).join(" ").toLowerCase()))) from++;
      if (!column) {
        const name = before.pop();
        return { problem: name ? `no column “${name}”${suggestion(name, known)}` : `what is ${found[1]}: write a name before it` };
      }
      before.length = from;
    }
    for (const [place, each] of before.entries()) {
      const problem = word(each.replace(/^"|"$/g, ""));
      if (problem && bare && !place) return { problem: `“${each}” is no unit of ${bare.name}: ${units[bare.unit]}` };
      if (problem) return { problem };
    }
    if (!found) break;
    if (!found[2]) return { problem: `${column.name} ${found[1]} what? Write a value behind it` };
    rest = rest.slice(found.index + found[0].length);
    let value = found[2].replace(/^"|"$/g, "");
    const unit = /^\s+([a-zµ%]+)(?=\s|$)/i.exec(rest); // "16 MiB"
    if (unit && !Number.isNaN(amount(value, "")) && !Number.isNaN(amount(value + unit[1], column.unit))) {
      value += unit[1];
      rest = rest.slice(unit[0].length);
    }
    bare = column.unit in units && !Number.isNaN(Number(value)) ? column : null;
    const problem = compare(column, found[1] === "==" ? "=" : found[1], value);
    if (problem) return { problem };
  }
  return { problem: "", test: (row) => tests.every((holds) => holds(row)) };
}
