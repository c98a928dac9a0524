// Draws a figure from the table that stands beside it, in the colours of the page.
"use strict";
(() => {
  const look = getComputedStyle(document.documentElement);
  const colour = (name) => look.getPropertyValue(`--${name}`).trim();
  const number = (cell) => (cell.dataset.value === undefined || cell.dataset.value === "" ? null : Number(cell.dataset.value));
  const words = (cell) => cell.textContent.trim();
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const calm = { displayModeBar: false, responsive: true, showTips: false, scrollZoom: false, doubleClick: false };

  const layout = (height, more) => ({
    height,
    margin: { l: 10, r: 10, t: 10, b: 10 },
    paper_bgcolor: colour("surface"),
    plot_bgcolor: colour("surface"),
    font: { family: "system-ui, sans-serif", size: 13, color: colour("ink") },
    showlegend: false,
    dragmode: false,
    hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("edge"), font: { color: colour("ink") } },
    ...more,
  });
  const axis = (more) => ({
    fixedrange: true, automargin: true, zeroline: false, linecolor: colour("line"), gridcolor: colour("line"),
    tickfont: { color: colour("faint") }, ...more,
  });

  function heat(place, table) {
    const names = [...table.tHead.rows[0].querySelectorAll("th[data-version]")].map(words);
    const rows = [...table.tBodies[0].rows];
    const cells = rows.map((row) => [...row.querySelectorAll("td[data-cell]")]);
    const values = cells.map((row) => row.map(number));
    const known = values.flat().filter((value) => value !== null);
    const [least, most] = [Math.min(0, ...known), Math.max(1, ...known)];
    const trace = {
      type: "heatmap", x: names, y: rows.map((row) => escaped(words(row.cells[0]))), z: values,
      text: cells.map((row) => row.map((cell) => escaped(words(cell)))), texttemplate: "%{text}", hoverongaps: false,
      hovertemplate: "%{y}, %{x}: %{text}<extra></extra>", xgap: 2, ygap: 2, zmin: least, zmax: most, showscale: false,
      colorscale: [[0, colour("removed-none")], [0.5, colour("removed-half")], [1, colour("removed-all")]],
    };
    const shape = layout(90 + 38 * rows.length, {
      xaxis: axis({ type: "category", side: "top", showgrid: false }),
      yaxis: axis({ type: "category", autorange: "reversed", showgrid: false }),
    });
    return Plotly.react(place, [trace], shape, calm);
  }

  function line(place, table) {
    const rows = [...table.tBodies[0].rows];
    const names = rows.map((row) => words(row.cells[0]));
    const values = rows.map((row) => number(row.querySelector("td[data-retained]")));
    const causes = rows.map((row) => escaped(row.dataset.cause));
    const trace = {
      type: "scatter", mode: "lines+markers", x: names, y: values, text: causes, line: { color: colour("kept"), width: 2 },
      marker: { size: 9, color: colour("kept"), symbol: rows.map((row) => (row.dataset.cause === "revocation" ? "circle-open" : "circle")) },
      hovertemplate: "%{x} (%{text}): %{y:.3f}<extra></extra>",
    };
    const floor = Number(table.dataset.floor);
    const shapes = table.dataset.floor ? [{
      type: "line", xref: "paper", x0: 0, x1: 1, y0: floor, y1: floor, line: { color: colour("faint"), width: 1, dash: "dot" },
    }] : [];
    const shape = layout(240, {
      shapes,
      xaxis: axis({ type: "category", showgrid: false }),
      yaxis: axis({ rangemode: "tozero", title: { text: escaped(table.dataset.metric), font: { color: colour("faint") } } }),
    });
    return Plotly.react(place, [trace], shape, calm);
  }

  const kinds = { heat, line };
  const draw = () => {
    for (const place of document.querySelectorAll("[data-chart]")) {
      const table = document.getElementById(place.dataset.of);
      if (!table || !window.Plotly) continue;
      place.hidden = false;
      kinds[place.dataset.chart](place, table).then(() => { place.dataset.drawn = "yes"; });
    }
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
