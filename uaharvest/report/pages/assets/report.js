// Sorts and filters the tables of a report, and draws its charts from them. Without it, the tables still say it all.
"use strict";

const value = (cell) => cell.dataset.v ?? cell.textContent.trim();
const rowsOf = (table) => [...table.tBodies[0].rows];

// Tables

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const text = ["text", "state"].includes(head.dataset.kind);
      const first = text ? "ascending" : "descending";
      const other = text ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      sort(table, column, text, order === "ascending" ? 1 : -1);
    });
  });
}

function sort(table, column, text, sign) {
  const collator = new Intl.Collator(undefined, { numeric: true });
  const keyed = rowsOf(table).map((row) => [row, text ? row.cells[column].textContent.trim() : value(row.cells[column])]);
  keyed.sort(([, one], [, other]) => {
    if (one === "" || other === "") return (one === "") - (other === ""); // unknown comes last in both orders
    return sign * (text ? collator.compare(one, other) : one - other);
  });
  table.tBodies[0].append(...keyed.map(([row]) => row));
}

function filters(form) {
  const table = document.getElementById(form.dataset.filters);
  const output = form.querySelector("output");
  const fields = form.elements;
  const [, many, what] = output.textContent.match(/of (\S+) (\S+)/);
  const folded = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const texts = new Map(rowsOf(table).map((row) => [row, folded(row.dataset.share ? row.cells[0].textContent : row.textContent)]));
  const apply = () => {
    const words = folded(fields.text.value).split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [row, text] of texts) {
      const fits = words.every((word) => text.includes(word)) && fitsShare(row) && fitsState(row) && fitsCell(row);
      row.hidden = !fits;
      shown += fits;
    }
    output.textContent = `${shown} of ${many} ${what}`;
  };
  const fitsShare = (row) => {
    if (!fields.share) return true;
    const [least, most] = fields.share.value.split("-").map(Number);
    return row.dataset.share >= least && row.dataset.share <= most;
  };
  const fitsState = (row) => {
    if (!fields.state?.value) return true;
    const states = fields.state.value.split(" ");
    const cells = [...row.cells].slice(2);
    const asked = fields.lecture.value === "" ? cells : [cells[fields.lecture.value]];
    return asked.some((cell) => states.some((state) => cell.classList.contains(state)));
  };
  const fitsCell = (row) => {
    if (!fields.cell?.value) return true;
    const column = [...table.tHead.rows[0].cells].findIndex((head) => head.dataset.key === fields.cell.dataset.column);
    return row.cells[column].textContent.trim() === fields.cell.value;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
}

// Charts

const COLOURS = ["live", "both", "recording", "some", "nothing"];
const colour = (name) => `var(--${name})`;

function records(table) {
  const heads = [...table.tHead.rows[0].cells];
  return rowsOf(table).map((row) =>
    Object.fromEntries(
      heads.map((head, column) => {
        const cell = row.cells[column];
        return [head.dataset.key, head.dataset.kind === "text" ? cell.textContent.trim() : Number(value(cell))];
      }),
    ),
  );
}

const grid = (options) => Plot.gridY({ stroke: "var(--line)", strokeOpacity: 1, ...options });
const tip = (data, options) => Plot.tip(data, Plot.pointerX({ fill: "var(--panel)", stroke: "var(--quiet)", ...options }));
const common = (width, options) => ({
  className: "plot", width, marginLeft: 42, marginTop: 24, marginBottom: 44, ...options,
  x: { labelOffset: 40, ...options.x },
});
const clockOf = (seconds) => {
  const minutes = Math.floor(seconds / 60);
  const rest = String(Math.round(seconds % 60)).padStart(2, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
};

const SERIES = [["live", "live", "live"], ["zoom", "Zoom", "both"], ["recorded", "recording", "recording"]];

const CHARTS = {
  lectures(data, width, figure) {
    const names = { live: "only live", both: "both", recording: "only recording", below: "below", nothing: "nothing" };
    const long = data.flatMap((one) => Object.keys(names).map((state) => ({ ...one, state, count: one[state] })));
    const said = (one) => `${one.number}. ${one.lecture}\n${one.present} present, ${one.absent} absent`;
    return {
      legend: Object.entries(names).map(([state, label]) => [state === "below" ? "some" : state, label]),
      plots: [[null, Plot.plot(common(width, {
        height: 260,
        x: { type: "band", label: "Lecture", tickSize: 0, ticks: every(data.map((one) => one.number), width / 26) },
        y: { label: "Students", domain: [0, Number(figure.dataset.students)], nice: true },
        color: { domain: Object.keys(names), range: COLOURS.map(colour) },
        marks: [
          grid(),
          Plot.barY(long, { x: "number", y: "count", fill: "state", order: Object.keys(names), insetLeft: 0.5, insetRight: 0.5 }),
          tip(data, { x: "number", y: "present", title: said }),
        ],
      }))]],
    };
  },
  along(data, width) {
    const said = (one) => `${clockOf(one.from_s)} to ${clockOf(one.to_s)}\nplayed ${one.views} times by ${one.viewers}`;
    const end = data.at(-1).to_s;
    const times = d3.ticks(0, end / 60, Math.max(3, width / 90)).map((minute) => minute * 60);
    const steps = [...data, { ...data.at(-1), from_s: end }];
    return {
      legend: [["recording", "times played"], ["live", "viewers"]],
      plots: [[null, Plot.plot(common(width, {
        height: 240,
        x: { label: "Position in the recording", domain: [0, end], ticks: times, tickFormat: clockOf },
        y: { label: "Count", domain: [0, d3.max(data, (one) => Math.max(one.views, one.viewers)) || 1], nice: true },
        marks: [
          grid(),
          Plot.areaY(steps, { x: "from_s", y: "views", curve: "step-after", fill: colour("recording"), fillOpacity: 0.35 }),
          Plot.lineY(steps, { x: "from_s", y: "views", curve: "step-after", stroke: colour("recording"), strokeWidth: 1 }),
          Plot.lineY(steps, { x: "from_s", y: "viewers", curve: "step-after", stroke: colour("live"), strokeWidth: 2 }),
          tip(data, { x: (one) => (one.from_s + one.to_s) / 2, y: "views", title: said }),
        ],
      }))]],
    };
  },
  clock(data, width, figure) {
    const [start, length] = [Number(figure.dataset.start ?? NaN), Number(figure.dataset.length)];
    const around = (one) => one.at >= start - 1800 && one.at < start + length + 1800;
    const parts = [["On the day", data.filter(around)], ["At other times, by the hour: most at once", byHour(data.filter((one) => !around(one)))]]
      .filter(([, some]) => some.length);
    const room = parts.length > 1 && width > 700 ? (width - 32) / 2 : width;
    const plots = parts.map(([title, some]) => {
      const size = title === "On the day" ? 300 : 3600;
      const bars = some.flatMap((one) => SERIES.map(([key, name]) => ({ at: one.at, name, count: one[key] })));
      return [title, Plot.plot(common(room, {
        height: 220,
        x: { type: "utc", label: null, ...dated(d3.extent(some, (one) => one.at), size, room) },
        y: { label: "People", zero: true, nice: true, ticks: 5, tickFormat: "d" },
        color: { domain: SERIES.map(([, name]) => name), range: SERIES.map(([, , style]) => colour(style)) },
        marks: [
          grid({ ticks: 5 }),
          Plot.rectY(bars, {
            x1: (one) => local(one.at), x2: (one) => local(one.at + size), y: "count", fill: "name", order: SERIES.map(([, name]) => name),
          }),
          tip(some, { x: (one) => local(one.at + size / 2), y: (one) => one.live + one.zoom + one.recorded, title: saidAt }),
        ],
      }))];
    });
    return { legend: SERIES.map(([, name, style]) => [style, name]), plots };
  },
  days(data, width) {
    const day = (one) => local(one.day);
    return {
      legend: [],
      plots: [[null, Plot.plot(common(width, {
        height: 200,
        x: { type: "utc", label: null, ...dated(d3.extent(data, (one) => one.day), 86400, width) },
        y: { label: "Viewers", zero: true, nice: true, ticks: 4, tickFormat: "d" },
        marks: [
          grid({ ticks: 4 }),
          Plot.rectY(data, { x1: day, x2: (one) => local(one.day + 86400), y: "viewers", fill: colour("recording"), insetLeft: 0.5, insetRight: 0.5 }),
          tip(data, { x: (one) => local(one.day + 43200), y: "viewers", title: (one) => `${d3.utcFormat("%a %-d %b")(day(one))}\n${one.viewers} viewers` }),
        ],
      }))]],
    };
  },
  seen(data, width) {
    return {
      legend: [],
      plots: [[null, Plot.plot(common(Math.min(width, 640), {
        height: 200,
        x: { label: "Share of the recording seen", tickFormat: "%", domain: [0, 1] },
        y: { label: "Students", domain: [0, d3.max(data, (one) => one.students) || 1], nice: true, ticks: 4, tickFormat: "d" },
        marks: [
          grid({ ticks: 4 }),
          Plot.rectY(data, { x1: "from_share", x2: "to_share", y: "students", fill: colour("recording"), inset: 0.5 }),
          Plot.ruleY([0], { stroke: "var(--quiet)" }),
        ],
      }))]],
    };
  },
};

// Instants are those of the course's clock, as seconds, so that the reader's time zone does not matter.
const local = (at) => new Date(at * 1000);

const every = (numbers, most) => {
  const step = Math.max(1, Math.ceil(numbers.length / most));
  return numbers.filter((_, place) => place % step === 0);
};

// The axis of time: days, or the time of day.
function dated([first, last], size, width) {
  const domain = [local(first), local(last + size)];
  if (last - first > 1.5 * 86400) {
    const step = Math.ceil((last - first) / 86400 / (width / 64));
    return { domain, ticks: d3.utcDay.range(d3.utcDay.ceil(domain[0]), domain[1], step), tickFormat: d3.utcFormat("%-d %b") };
  }
  return { domain, ticks: Math.max(3, width / 90), tickFormat: d3.utcFormat("%H:%M") };
}

function saidAt(one) {
  const parts = SERIES.filter(([key]) => one[key]).map(([key, name]) => `${one[key]} ${name}`);
  return [d3.utcFormat("%a %-d %b, %H:%M")(local(one.at)), ...parts].join("\n");
}

function byHour(data) {
  const most = (some) => ({ live: d3.max(some, (one) => one.live), zoom: d3.max(some, (one) => one.zoom), recorded: d3.max(some, (one) => one.recorded) });
  return d3.rollups(data, most, (one) => Math.floor(one.at / 3600) * 3600).map(([at, counts]) => ({ at, ...counts }));
}

function draw(figure) {
  const place = figure.querySelector(".plot");
  const width = Math.floor(place.clientWidth);
  if (!width || width === figure.drawn) return;
  figure.drawn = width;
  const { legend, plots } = CHARTS[figure.dataset.chart](figure.records, width, figure);
  const items = legend.map(([style, label]) => {
    const item = document.createElement("span");
    const swatch = document.createElement("span");
    swatch.className = `swatch ${style}`;
    item.append(swatch, label);
    return item;
  });
  figure.querySelector(".legend").replaceChildren(...items);
  const drawn = plots.map(([title, svg]) => {
    svg.querySelectorAll("[aria-label], [aria-description]").forEach((part) => {
      part.removeAttribute("aria-label"); // the parts of an image have no names
      part.removeAttribute("aria-description");
    });
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", [title, place.dataset.said].filter(Boolean).join(": "));
    const box = document.createElement("div");
    if (title) box.append(Object.assign(document.createElement("h3"), { textContent: title }));
    box.append(svg);
    return box;
  });
  place.classList.toggle("plots", drawn.length > 1);
  place.replaceChildren(...drawn);
}

document.querySelectorAll("table[data-sortable]").forEach(sortable);
document.querySelectorAll(".matrix").forEach((matrix) => {
  matrix.addEventListener("pointerover", ({ target }) => {
    if (target.matches("td.cell")) target.title = target.textContent;
  });
});
document.querySelectorAll("form.filters").forEach(filters);
const watcher = new ResizeObserver((entries) => entries.forEach((entry) => draw(entry.target)));
document.querySelectorAll("figure[data-chart]").forEach((figure) => {
  figure.records = records(document.getElementById(figure.dataset.table));
  watcher.observe(figure);
});
