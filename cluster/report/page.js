"use strict";
// The pictures, by Vega-Lite, and the table of cells. The table's data is unpacked once into typed arrays.

const SHOWN = 200; // rows at a time: more than anyone reads
const charts = JSON.parse(document.getElementById("charts").textContent);

async function draw() {
  const embed = window.vegaEmbed;
  for (const [number, spec] of charts.entries()) {
    // the interpreter instead of eval: the page's policy forbids that
    await embed(`#chart-${number}`, spec, { renderer: "svg", actions: false, ast: true });
  }
}

async function unpack() {
  const text = document.getElementById("packed").textContent.trim();
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(plain).arrayBuffer();
  const end = new Uint8Array(buffer).indexOf(10);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 0, end)));
  let place = end + 1;
  const take = (Kind) => {
    const column = new Kind(buffer, place, head.rows);
    place += column.byteLength;
    return column;
  };
  for (const column of head.columns) {
    if (column.labels) column.codes = take(Uint32Array);
    else [column.means, column.halves] = [take(Float32Array), take(Float32Array)];
  }
  return head;
}

function figure(value) {
  if (Number.isNaN(value)) return "";
  const size = Math.abs(value);
  for (const [factor, prefix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (size >= factor) return (value / factor).toPrecision(3) + prefix;
  }
  return String(Number(value.toPrecision(3)));
}

class Table {
  constructor(data) {
    this.data = data;
    this.order = Uint32Array.from({ length: data.rows }, (_, row) => row);
    this.sorted = null;
    this.heads();
    const filter = document.getElementById("filter");
    filter.addEventListener("input", () => this.show(filter.value));
    this.show("");
  }

  id(row) {
    return this.data.ids.substr(12 * row, 12);
  }

  value(column, row) {
    return column.labels ? column.labels[column.codes[row]] : column.means[row];
  }

  heads() {
    for (const column of [null, ...this.data.columns]) {
      const cell = document.createElement("th");
      const button = document.createElement("button");
      button.textContent = column ? column.name : "cell";
      button.addEventListener("click", () => this.sort(column));
      cell.append(button);
      document.getElementById("heads").append(cell);
    }
  }

  sort(column) {
    const sign = this.sorted === column ? -1 : 1;
    this.sorted = sign === 1 ? column : undefined;
    const of = column ? (row) => this.value(column, row) : (row) => this.id(row);
    this.order.sort((a, b) => {
      const [x, y] = [of(a), of(b)];
      return sign * (x < y ? -1 : x > y ? 1 : a - b);
    });
    this.show(document.getElementById("filter").value);
  }

  // Each term of a filter becomes a test of a row.
  test(term) {
    const compared = /^(.+?)(<=|>=|<|>|=)(.+)$/.exec(term);
    const bound = compared ? Number(compared[3]) : NaN;
    if (compared && !Number.isNaN(bound)) {
      const name = compared[1].toLowerCase();
      const column = this.data.columns.find((each) => name === each.key || name === each.name.toLowerCase());
      if (!column) return () => false;
      const holds = {
        "<": (x) => x < bound, ">": (x) => x > bound, "=": (x) => x === bound, "<=": (x) => x <= bound,
        ">=": (x) => x >= bound,
      }[compared[2]];
      return (row) => holds(Number(this.value(column, row)));
    }
    const word = term.toLowerCase();
    const found = this.data.columns.filter((column) => column.labels)
      .map((column) => [column, column.labels.map((label) => String(label).toLowerCase().includes(word))]);
    return (row) => found.some(([column, has]) => has[column.codes[row]]) || this.id(row).includes(word);
  }

  show(filter) {
    const tests = filter.split(/\s+/).filter(Boolean).map((term) => this.test(term));
    const body = document.createDocumentFragment();
    let count = 0;
    for (const row of this.order) {
      if (!tests.every((holds) => holds(row))) continue;
      if (++count <= SHOWN) body.append(this.row(row));
    }
    document.getElementById("rows").replaceChildren(body);
    const shown = Math.min(count, SHOWN);
    document.getElementById("count").textContent =
      `${count.toLocaleString("en")} of ${this.data.rows.toLocaleString("en")} cells` +
      (shown < count ? `, the first ${shown} shown` : "");
  }

  row(row) {
    const line = document.createElement("tr");
    const add = (text) => {
      line.insertCell().textContent = text;
    };
    add(this.id(row));
    for (const column of this.data.columns) {
      if (column.labels) {
        add(String(this.value(column, row)));
      } else {
        const half = figure(column.halves[row]);
        add(figure(column.means[row]) + (half && ` ±${half}`));
      }
    }
    return line;
  }
}

new Table(await unpack());
await draw();
document.documentElement.dataset.ready = "yes";
