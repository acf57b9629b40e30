"""Checks of a page that a person with a keyboard, a screen reader or weak eyes needs.

Run in the page. Not a replacement for axe or a person: names of controls, order of headings,
headers of tables, references between elements, and the contrast of every text that is shown
(WCAG 2.2, 1.4.3: 4.5 to 1, large text 3 to 1).
"""

from __future__ import annotations

from playwright.sync_api import Page

_STRUCTURE = """
() => {
  const found = [];
  const say = (words, it) => found.push(`${words}: ${it.outerHTML.slice(0, 120)}`);
  if (!document.documentElement.lang) found.push("no language");
  if (!document.title.trim()) found.push("no title");
  const ids = [...document.querySelectorAll("[id]")].map((it) => it.id);
  for (const id of ids.filter((id, i) => ids.indexOf(id) !== i)) found.push(`id twice: ${id}`);
  let level = 0;
  for (const it of document.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
    const next = Number(it.tagName[1]);
    if (!it.checkVisibility()) continue;
    if (next > level + 1) say("a level of headings is left out", it);
    if (!it.textContent.trim()) say("empty heading", it);
    level = next;
  }
  if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
  for (const it of document.querySelectorAll("input, select, textarea")) {
    const name = it.getAttribute("aria-label") || (it.labels[0] && it.labels[0].textContent);
    if (!name || !name.trim()) say("control without a label", it);
  }
  for (const it of document.querySelectorAll("button, a[href], summary")) {
    if (!it.textContent.trim() && !it.getAttribute("aria-label")) say("without a name", it);
  }
  for (const it of document.querySelectorAll("[aria-labelledby], [aria-describedby]")) {
    for (const name of ["aria-labelledby", "aria-describedby"]) {
      for (const id of (it.getAttribute(name) || "").split(" ").filter(Boolean)) {
        if (!document.getElementById(id)) say(`${name} of nothing`, it);
      }
    }
  }
  for (const it of document.querySelectorAll("table")) {
    if (it.checkVisibility() && !it.querySelector("th[scope]")) say("table without headers", it);
  }
  for (const it of document.querySelectorAll("[tabindex]")) {
    if (it.tabIndex > 0) say("tabindex above 0", it);
  }
  for (const it of document.querySelectorAll("div[onclick], span[onclick], td[onclick]")) {
    say("no button, and clickable", it);
  }
  if (document.querySelectorAll("main").length !== 1) found.push("not one main");
  return found;
}
"""

_CONTRAST = """
() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((it) => {
      const c = it / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const backOf = (it) => {
    for (let at = it; at; at = at.parentElement) {
      const rgb = parse(getComputedStyle(at).backgroundColor);
      if (rgb.length === 3 || rgb[3] === 1) return rgb;
    }
    return [255, 255, 255];
  };
  const worst = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const it = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim()) continue;
    if (it.closest("svg, script, .hidden, .skip")) continue;
    if (!it.checkVisibility()) continue;
    const style = getComputedStyle(it);
    const [a, b] = [luminance(parse(style.color)), luminance(backOf(it))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if (ratio < needed) worst[`${it.tagName}.${it.className}`] = ratio.toFixed(2);
  }
  return Object.entries(worst).map(([name, ratio]) => `${name}: ${ratio}`);
}
"""


def find_faults(page: Page) -> list[str]:
    """Return what is wrong with a page's structure."""
    found: list[str] = page.evaluate(_STRUCTURE)
    return found


def find_weak_contrast(page: Page) -> list[str]:
    """Return the elements whose text is too near to its background, with the ratio."""
    found: list[str] = page.evaluate(_CONTRAST)
    return found
