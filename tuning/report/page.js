"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const [darkByLight, template, tooltips] = ["palette", "template", "tooltips"].map(read);
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // Figures are drawn in light colours; in dark mode each one is replaced wherever it occurs.
  const themed = (value) => {
    if (!dark.matches) return value;
    if (typeof value === "string") return darkByLight[value] ?? value;
    if (Array.isArray(value)) return value.map(themed);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, themed(part)]));
  };

  // A trace only names its trials; the tooltip of each is in the page once.
  const withTooltips = (trace) =>
    trace.customdata ? { ...trace, hovertext: trace.customdata.map((key) => tooltips[key] ?? "") } : trace;

  const config = {
    displaylogo: false,
    responsive: true,
    modeBarButtons: [["toImage", "resetScale2d"]],
  };
  // Scrolling with a finger must not zoom.
  const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";

  const draw = (plot) => {
    const { data, layout } = JSON.parse(plot.nextElementSibling.textContent);
    const whole = themed({ dragmode, uirevision: "kept", ...layout, template });
    const displayModeBar = plot.clientHeight > 200 && "hover"; // it would cover a small chart
    return Plotly.react(plot, themed(data).map(withTooltips), whole, { ...config, displayModeBar });
  };

  const showTrial = (event) => {
    const row = document.getElementById(`trial-${event.points[0].customdata}`);
    if (row === null) return;
    row.hidden = false;
    location.hash = row.id;
  };

  const plots = [...document.querySelectorAll(".plot")];
  for (const plot of plots) draw(plot).then(() => plot.on("plotly_click", showTrial));
  dark.addEventListener("change", () => plots.forEach(draw));

  const keyOf = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = Number(text);
    return text === "" || text === "-" ? null : Number.isNaN(number) ? text.toLowerCase() : number;
  };
  const compare = (one, other) => {
    if (typeof one === typeof other) return one < other ? -1 : one > other ? 1 : 0;
    return typeof one === "number" ? -1 : 1;
  };

  const sortBy = (table, rows, column) => {
    const headings = [...table.tHead.rows[0].cells];
    const next = { none: "ascending", ascending: "descending", descending: "none" }[headings[column].ariaSort];
    for (const heading of headings) heading.ariaSort = "none";
    headings[column].ariaSort = next;
    const keyed = rows.map((row) => [keyOf(row, column), row]);
    const sign = next === "descending" ? -1 : 1;
    // Rows without a value stay at the end in either order.
    const order = ([one], [other]) => (one === null) - (other === null) || (one === null ? 0 : sign * compare(one, other));
    table.tBodies[0].append(...(next === "none" ? rows : keyed.sort(order).map(([, row]) => row)));
  };

  const filterRows = (tools, rows) => {
    const words = tools.querySelector("input").value.toLowerCase().split(/\s+/).filter(Boolean);
    const select = tools.querySelector("select");
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const isWanted = !select?.value || row.cells[select.dataset.column].textContent.trim() === select.value;
      row.hidden = !(isWanted && words.every((word) => text.includes(word)));
    }
    tools.querySelector("output").value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  };

  for (const table of document.querySelectorAll("table")) {
    const rows = [...table.tBodies[0].rows];
    table.querySelectorAll("thead button").forEach((button, column) => {
      button.addEventListener("click", () => sortBy(table, rows, column));
    });
    const tools = table.closest("section").querySelector(".tools");
    tools?.addEventListener("input", () => filterRows(tools, rows));
  }

  // MLflow shows the page in a frame that may not open links.
  if (window.top !== window) document.querySelectorAll("a.run").forEach((link) => link.removeAttribute("href"));
})();
