// The pictures, by Vega-Lite, their legends, and the table of cells. The table's data is unpacked once into typed arrays.

const SHOWN = 200; // rows at a time: more than anyone reads
const charts = JSON.parse(document.getElementById("charts").textContent);

const views = [];
async function draw() {
  const embed = window.vegaEmbed;
  for (const [picture, panels] of charts.entries()) {
    for (const [number, spec] of panels.entries()) {
      // the interpreter instead of eval: the page's policy forbids that
      const options = { renderer: "svg", actions: false, ast: true, tooltip: { theme: "custom" } };
      views.push((await embed(`#chart-${picture}-${number}`, spec, options)).view);
    }
  }
}

// One policy at a time can be pinned, by a click or a key; pointing at another shows that meanwhile.
function legends() {
  let pinned = "";
  const buttons = [...document.querySelectorAll(".legend button")];
  const show = (policy) => views.forEach((view) => view.signal("shown", policy).runAsync());
  for (const button of buttons) {
    const policy = button.dataset.policy;
    button.addEventListener("pointerenter", () => show(policy));
    button.addEventListener("pointerleave", () => show(pinned));
    button.addEventListener("click", () => {
      pinned = pinned === policy ? "" : policy;
      for (const each of buttons) each.setAttribute("aria-pressed", String(each.dataset.policy === pinned));
      show(pinned);
    });
  }
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !pinned) return;
    buttons.find((each) => each.dataset.policy === pinned).click();
  });
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

function figure(value, digits) {
  if (Number.isNaN(value)) return "";
  const size = Math.abs(value);
  for (const [factor, prefix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (size >= factor) return String(Number((value / factor).toPrecision(digits))) + prefix;
  }
  return String(Number(value.toPrecision(digits)));
}

class Table {
  constructor(data) {
    this.data = data;
    this.columns = data.columns;
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
    return column.labels ? column.values[column.codes[row]] : column.means[row];
  }

  someId(part) {
    return this.order.some((row) => this.id(row).includes(part));
  }

  heads() {
    for (const column of [null, ...this.data.columns]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      const button = document.createElement("button");
      button.textContent = column ? column.name : "cell";
      button.type = "button";
      button.addEventListener("click", () => this.sort(column, cell));
      cell.append(button);
      document.getElementById("heads").append(cell);
    }
  }

  sort(column, cell) {
    const sign = this.sorted === column ? -1 : 1;
    this.sorted = sign === 1 ? column : undefined;
    const of = column ? (row) => this.value(column, row) : (row) => this.id(row);
    this.order.sort((a, b) => {
      const [x, y] = [of(a), of(b)];
      return sign * (x < y ? -1 : x > y ? 1 : a - b);
    });
    for (const head of document.querySelectorAll("#heads th")) head.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    this.show(document.getElementById("filter").value);
  }

  show(filter) {
    const { test, problem } = readFilter(filter, this);
    const said = document.getElementById("count");
    said.classList.toggle("wrong", Boolean(problem));
    document.getElementById("filter").setAttribute("aria-invalid", String(Boolean(problem)));
    if (problem) { // the rows stay as they were
      said.textContent = problem;
      return;
    }
    const body = document.createDocumentFragment();
    let count = 0;
    for (const row of this.order) {
      if (!test(row)) continue;
      if (++count <= SHOWN) body.append(this.row(row));
    }
    document.getElementById("rows").replaceChildren(body);
    const shown = Math.min(count, SHOWN);
    said.textContent =
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
        add(column.labels[column.codes[row]]);
      } else {
        const [mean, half] = [figure(column.means[row], 3), figure(column.halves[row], 2)];
        add(mean + (half && mean + half !== "00" ? ` ±${half}` : ""));
      }
    }
    return line;
  }
}

new Table(await unpack());
await draw();
legends();
document.documentElement.dataset.ready = "yes";
