// The entries of Plotly's legends as buttons that a keyboard works: Plotly gives them to the mouse
// alone. Tab goes from one to the next, Enter or the space bar shows or hides what it names, and
// screen readers hear which is shown. What was hidden stays so when the figure is drawn anew.
"use strict";
const FIGURE_LEGEND = (() => {
  // Traces as they were left in this figure, by the names in its legend.
  function recall(element, traces) {
    const left = element.legendShown || new Map();
    return traces.map((trace) =>
      left.has(trace.name) ? { ...trace, visible: left.get(trace.name) } : trace,
    );
  }

  // See to a plot's legend now and each time that Plotly has drawn it again.
  function attach(element, place) {
    place.on("plotly_afterplot", () => {
      const focused = place.legendFocus;
      see(place);
      if (focused !== undefined && !place.contains(document.activeElement)) {
        entries(place).find((entry) => nameOf(entry) === focused)?.focus({ preventScroll: true });
      }
    });
    place.on("plotly_restyle", () => {
      const named = place.data.filter((trace) => trace.name !== undefined);
      element.legendShown = new Map(named.map((trace) => [trace.name, trace.visible ?? true]));
    });
    see(place);
  }

  function see(place) {
    for (const entry of entries(place)) makeButton(place, entry);
    // Zoom and pan choose what dragging does, which takes a mouse.
    for (const it of place.querySelectorAll("[data-attr=dragmode]")) it.tabIndex = -1;
  }

  function entries(place) {
    return [...place.querySelectorAll(".legend .traces")];
  }

  function nameOf(entry) {
    return entry.querySelector(".legendtext")?.textContent ?? "";
  }

  function tracesOf(place, name) {
    const named = place.data.find((trace) => trace.name === name);
    const group = named?.legendgroup;
    return [...place.data.keys()].filter((index) => {
      const trace = place.data[index];
      return group ? trace.legendgroup === group : trace === named;
    });
  }

  function makeButton(place, entry) {
    const name = nameOf(entry);
    const [first] = tracesOf(place, name);
    if (first === undefined) return;
    const isShown = (place.data[first].visible ?? true) === true;
    const attributes = {
      tabindex: 0, role: "button", "aria-label": `Show ${name}`, "aria-pressed": isShown,
    };
    for (const [key, value] of Object.entries(attributes)) entry.setAttribute(key, value);
    if (entry.legendButton) return; // Plotly keeps the element, and so what listens to it
    entry.legendButton = true;
    entry.addEventListener("keydown", (event) => press(place, entry, event));
    entry.addEventListener("blur", () => delete place.legendFocus);
  }

  function press(place, entry, event) {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault(); // the space bar scrolls
    if (event.repeat) return;
    const name = nameOf(entry);
    const traces = tracesOf(place, name);
    const isShown = entry.getAttribute("aria-pressed") === "true";
    place.legendFocus = name;
    Plotly.restyle(place, { visible: isShown ? "legendonly" : true }, traces);
  }

  return { attach, recall };
})();
